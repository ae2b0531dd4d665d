"""Neighbours against brute force over all features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from monosemy.index import encoding, features
from monosemy.index.neighbours import Coactivation, DecoderNeighbours
from monosemy.specs.parts import IndexingSpec
from tests.support.planted_index import random_text


def _brute_force_jaccard(fires: np.ndarray) -> np.ndarray:
    both = fires.T.astype(int) @ fires.astype(int)
    own = fires.sum(axis=0)
    return both / np.maximum(own[:, None] + own[None, :] - both, 1)


def test_coactivation_equals_brute_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "BLOCK_FEATURES", 7)  # neighbours lie in other blocks
    planted = random_text(density=0.08)
    reader = planted.build(tmp_path / "index", IndexingSpec(neighbours=5))
    jaccard = _brute_force_jaccard(planted.dense > 0)
    np.fill_diagonal(jaccard, 0)
    assert reader.meta["coactivation_tokens"] == planted.store.n_tokens
    for feature in range(40):
        near = reader.evidence(feature).coactive_neighbours
        order = np.argsort(-jaccard[feature], kind="stable")
        expected = [f for f in order[:5] if jaccard[feature, f] > 0]
        assert [n.feature for n in near] == expected
        np.testing.assert_allclose([n.value for n in near], jaccard[feature, expected], rtol=1e-3)


def test_ties_are_settled_by_index() -> None:
    coactivation = Coactivation(8, 2)
    # Features 2..6 all fire with feature 7 once, on tokens of their own.
    indices = np.array([[7, f] for f in range(2, 7)])
    coactivation.add(np.arange(5), indices, np.ones((5, 2)))
    coactivation.finish()
    neighbours, jaccard = coactivation.of(7, np.arange(5))
    assert neighbours.tolist() == [2, 3] and jaccard.tolist() == [0.2, 0.2]
    assert coactivation.of(0, np.zeros(0, int))[0].tolist() == []


def test_batches_may_differ_in_width_and_hold_padding() -> None:
    rng = np.random.default_rng(0)
    coactivation = Coactivation(70_000, 3)  # beyond 16 bits
    fires = np.zeros((60, 70_000), bool)
    for begin, width in ((0, 4), (20, 9), (40, 2)):
        indices = np.stack([rng.choice(12, width, replace=False) for _ in range(20)]) + 69_980
        values = rng.random((20, width)) - 0.3
        np.put_along_axis(fires[begin : begin + 20], indices, values > 0, axis=1)
        coactivation.add(np.arange(begin, begin + 20) * 3, indices, values)
    coactivation.finish()
    for feature in range(69_980, 69_992):
        expected = fires[fires[:, feature]].sum(axis=0)
        positions = np.flatnonzero(fires[:, feature]) * 3
        np.testing.assert_array_equal(coactivation.counts(positions), expected)


def test_a_long_text_is_sampled_and_the_number_of_tokens_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = random_text(seed=2, n_documents=120)
    monkeypatch.setattr(encoding, "COACTIVATION_TOKENS", planted.store.n_tokens // 3)
    reader = planted.build(tmp_path / "index")
    tokens = reader.meta["coactivation_tokens"]
    assert 0.25 < tokens / planted.store.n_tokens < 0.42
    exact = random_text(seed=2, n_documents=120)
    jaccard = _brute_force_jaccard(exact.dense > 0)
    near = {n.feature: n.value for n in reader.evidence(5).coactive_neighbours}
    assert near[1] == pytest.approx(jaccard[5, 1], abs=0.03)  # the dense one


def test_decoder_cosines_equal_brute_force() -> None:
    torch.manual_seed(0)
    weights = torch.randn(50, 12) * torch.rand(50, 1)
    unit = weights / weights.norm(dim=1, keepdim=True)
    cosines = (unit @ unit.T).numpy()
    np.fill_diagonal(cosines, -2)
    features_nk, values = DecoderNeighbours(weights, 6).of(17, 31)
    order = np.argsort(-cosines[17:31], axis=1)[:, :6]
    np.testing.assert_array_equal(features_nk, order)
    np.testing.assert_allclose(values, np.take_along_axis(cosines[17:31], order, 1), atol=1e-6)
    assert DecoderNeighbours(weights[:3], 6).of(0, 3)[0].shape == (3, 2)
