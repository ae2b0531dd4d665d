"""The view ``relation``: what a product of two states can tell of explanations never seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monosemy.errors import DataError
from monosemy.interp.probe.items import JudgedItem
from monosemy.interp.probe.probe import WEIGHTS, Probe
from monosemy.interp.probe.relation import RELATION, Relation
from monosemy.interp.probe.states import ProbeStates
from monosemy.interp.probe.train import fit_probe
from tests.support.planted_hosted_sae import long_host

LAYERS, WIDTH, FEATURES, EACH = 3, 40, 24, 12
SOURCE = {"depths": LAYERS}


def planted(seed: int = 0, strength: float = 1.5) -> tuple[list[JudgedItem], np.ndarray]:
    """A text that fits holds its description's own direction; both kinds sit far from 0."""
    rng = np.random.default_rng(seed)
    own_FLD = rng.standard_normal((FEATURES, LAYERS, WIDTH))
    items, rows = [], []
    for feature in range(FEATURES):
        for number in range(EACH):
            fits = number % 2 == 0
            text_LD = rng.standard_normal((LAYERS, WIDTH)) + 50.0
            text_LD += strength * own_FLD[feature] * fits
            rows.append(np.stack([own_FLD[feature] - 30.0, text_LD]).ravel())
            items.append(JudgedItem(feature, f"claim {feature}", f"text {feature} {number}", fits))
    return items, np.array(rows)


def test_it_tells_what_no_linear_map_of_both_can() -> None:
    items, states = planted()
    related = fit_probe(items, {RELATION: states}, SOURCE).report.as_dict()
    beside = fit_probe(items, {"beside": states}, SOURCE).report.as_dict()
    assert related["probe"]["value"] > 0.9 and related["serves"]
    assert beside["probe"]["value"] < 0.7 and not beside["serves"]


def test_shuffled_answers_teach_nothing() -> None:
    items, states = planted()
    answers = np.random.default_rng(1).permutation([item.answer for item in items])
    mixed = [replace(item, answer=bool(a)) for item, a in zip(items, answers, strict=True)]
    report = fit_probe(mixed, {RELATION: states}, SOURCE).report.as_dict()
    assert report["probe"]["low"] < 0.5 < report["probe"]["high"] and not report["serves"]


def test_cosines_by_hand() -> None:
    states = np.array([[1.0, 0, 2, 0], [3, 0, 4, 0], [2, 1, 3, 1], [2, -1, 3, 1]])
    relation = Relation(np.array([[[2.0, 0]], [[3.0, 0]]]), np.ones((2, 1, 2)))
    found = relation(states)[:, 0]
    # (-1, 0) and (-1, 0); (1, 0) and (1, 0); (0, 1) and (0, 1); (0, -1) and (0, 1).
    np.testing.assert_allclose(found, [10, 10, 10, -10], rtol=1e-12)
    fitted = Relation.fit(states, 1)
    assert fitted.layers == 1
    np.testing.assert_allclose(fitted.centre_KLD[:, 0], [[2, 0], [3, 0.5]])


def test_a_probe_is_kept_and_says_the_same(tmp_path: Path) -> None:
    items, states = planted()
    probe = fit_probe(items, {RELATION: states}, SOURCE)
    assert probe.view == RELATION and probe.relation is not None
    probe.save(tmp_path / "p")
    again = Probe.load(tmp_path / "p")
    np.testing.assert_array_equal(again.probabilities(states), probe.probabilities(states))
    assert again.identity == probe.identity
    moved = replace(probe.relation, centre_KLD=probe.relation.centre_KLD + 1)
    assert replace(probe, relation=moved).identity != probe.identity
    right = np.array([item.answer for item in items])
    assert ((probe.probabilities(states) > 0.5) == right).mean() > 0.85
    (tmp_path / "p" / WEIGHTS).write_bytes(b"not tensors")
    with pytest.raises(DataError, match="no probe to read"):
        Probe.load(tmp_path / "p")


def test_states_are_read_alone_and_once(tiny_tokenizer: Any) -> None:
    host = long_host(tiny_tokenizer)
    reader = ProbeStates(host, views=[RELATION])
    pairs = [("Names of cities", "a text"), ("Names of cities", "another"), ("x", "a text")]
    found = reader(pairs)
    assert set(found) == {RELATION} and reader.source()["depths"] == len(reader.depths)
    rows = found[RELATION].reshape(3, 2, len(reader.depths), host.d_model)
    assert np.array_equal(rows[0, 0], rows[1, 0]) and np.array_equal(rows[0, 1], rows[2, 1])
    assert not np.array_equal(rows[0, 1], rows[1, 1])
    both = ProbeStates(host)(pairs)
    np.testing.assert_allclose(both[RELATION], found[RELATION], atol=1e-5)
    assert len(both) > 1
    assert np.isfinite(reader([("", "")])[RELATION]).all()
