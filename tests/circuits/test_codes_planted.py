"""Codes find planted heads; the raw score finds them even where labels mean nothing, z does not."""

from __future__ import annotations

import numpy as np
import pytest

from monosemy.circuits.agreement import roc_auc
from monosemy.circuits.codes import train_code_sae
from monosemy.circuits.scores import causal_pairs, score_edges, score_nodes, shuffled_labels
from monosemy.errors import DataError
from monosemy.specs.circuits import CodesSpec
from tests.support.planted_heads import HEADS, planted_codes, planted_outputs

KINDS = CodesSpec().latents + 1
SHUFFLINGS = 20


def test_planted_heads_are_found_and_shuffled_labels_are_not() -> None:
    outputs, positive, member = planted_outputs(0)
    codes = planted_codes(outputs, 0)
    scored, q = score_nodes([codes], shuffled_labels(positive, 200, 0), KINDS)
    assert roc_auc(scored.z, member) > 0.95
    assert (q <= 0.05)[member].all() and (q <= 0.05)[~member].sum() <= 2
    assert scored.z[member].min() > 5 > scored.z[~member].max()

    rng = np.random.default_rng(1)
    raw, z, any_found = [], [], 0
    for number in range(SHUFFLINGS):
        nothing = rng.permutation(positive)
        shuffled, q = score_nodes([codes], shuffled_labels(nothing, 200, number), KINDS)
        raw.append(roc_auc(shuffled.score, member))
        z.append(roc_auc(shuffled.z, member))
        any_found += bool((q <= 0.05).any())
    assert np.mean(raw) > 0.99, "many codes by themselves give a high raw score"
    assert 0.4 < np.mean(z) < 0.6
    assert any_found <= 5, "at 5 % false discovery, one in twenty at a guess"

    layers = [head // 6 for head in range(HEADS)]
    pairs = causal_pairs(layers, range(HEADS))
    edges, q = score_edges([codes], shuffled_labels(positive, 40, 0), KINDS, pairs)
    both = member[pairs].all(1)
    assert roc_auc(edges.z, both) > 0.95
    assert (q <= 0.05)[both].all()


def test_equal_seeds_give_equal_codes() -> None:
    outputs, _, _ = planted_outputs(1, prompts=20)
    spec = CodesSpec(epochs=40)
    first, again, other = (planted_codes(outputs, seed, spec) for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_an_output_that_activates_nothing_has_a_code_of_its_own() -> None:
    outputs, _, _ = planted_outputs(2, prompts=10)
    sae = train_code_sae(outputs.flatten(0, 1), CodesSpec(epochs=5), 0)
    silent = sae.bias / sae.scale
    assert int(sae.encode(silent)) == CodesSpec().latents == sae.codes - 1
    along = (sae.bias + 3 * sae.W_enc[17]) / sae.scale
    assert int(sae.encode(along)) == 17
    longer = train_code_sae(outputs.flatten(0, 1), CodesSpec(epochs=300), 0)
    assert 0 < longer.fvu < sae.fvu


def test_scale_does_not_matter() -> None:
    outputs, _, _ = planted_outputs(3, prompts=20)
    spec = CodesSpec(epochs=40)
    assert (planted_codes(outputs, 0, spec) == planted_codes(outputs / 1024, 0, spec)).all()


def test_heads_that_add_nothing_are_refused() -> None:
    outputs, _, _ = planted_outputs(0, prompts=5)
    with pytest.raises(DataError, match="add nothing"):
        train_code_sae(0 * outputs.flatten(0, 1), CodesSpec(), 0)
