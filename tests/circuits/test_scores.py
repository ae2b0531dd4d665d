"""Node and edge scores against counting by hand; the null, its p-values and their q."""

from __future__ import annotations

import numpy as np
import pytest

from monosemy.circuits import scores
from monosemy.circuits.scores import (
    PooledNull,
    against_null,
    causal_pairs,
    edge_scores,
    node_scores,
    score_edges,
    score_nodes,
    shuffled_labels,
)

KINDS = 7


def random_codes(seed: int, prompts: int = 40, heads: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(KINDS, size=(prompts, heads))


def labels_of(prompts: int, count: int, seed: int = 0) -> np.ndarray:
    return shuffled_labels(np.arange(prompts) < prompts // 3, count, seed)


def test_nodes_equal_counting_by_hand() -> None:
    codes, labels = random_codes(0), labels_of(40, 5)
    got = node_scores(codes, labels, KINDS)
    for row, positive in enumerate(labels):
        for head in range(codes.shape[1]):
            alone = set(codes[positive, head]) - set(codes[~positive, head])
            assert got[row, head] == len(alone)
    known = np.array([[0], [1], [2], [2], [3]])
    label = np.array([[True, True, True, False, False]])
    assert node_scores(known, label, KINDS).tolist() == [[2]]


def test_edges_equal_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, labels = random_codes(1), labels_of(40, 5)
    layers = [0, 0, 0, 1, 1, 1, 4, 4, 4, 5, 5, 5]
    pairs = causal_pairs(layers, range(12))
    wanted = [(a, b) for a in range(12) for b in range(12) if layers[a] < layers[b]]
    assert sorted(map(tuple, pairs.tolist())) == sorted(wanted)
    got = edge_scores(codes, labels, KINDS, pairs)
    for row, positive in enumerate(labels):
        for place, (a, b) in enumerate(pairs):
            both = list(zip(codes[:, a], codes[:, b], strict=True))
            inside = {both[i] for i in np.flatnonzero(positive)}
            outside = {both[i] for i in np.flatnonzero(~positive)}
            assert got[row, place] == len(inside - outside)
    whole, q = score_edges([codes, codes[::-1]], labels, KINDS, pairs)
    monkeypatch.setattr(scores, "_CELLS_AT_ONCE", 200)
    blocks, q_blocks = score_edges([codes, codes[::-1]], labels, KINDS, pairs)
    for name in ("score", "mean", "sd", "z", "p"):
        assert np.array_equal(getattr(whole, name), getattr(blocks, name)), name
    assert np.array_equal(q, q_blocks)


def test_pairs_among_some_heads() -> None:
    assert causal_pairs([0, 0, 1, 2], [3, 0]).tolist() == [[0, 3]]
    assert causal_pairs([0, 0, 1, 2], [0, 1]).tolist() == []


def test_labels_are_shuffled_and_seeded() -> None:
    labels = labels_of(30, 8, seed=5)
    assert labels.shape == (9, 30) and labels[0].tolist() == [True] * 10 + [False] * 20
    assert (labels.sum(1) == 10).all() and len(np.unique(labels, axis=0)) == 9
    assert np.array_equal(labels, labels_of(30, 8, seed=5))
    assert not np.array_equal(labels, labels_of(30, 8, seed=6))


def test_the_null_is_counted() -> None:
    table = np.array([[5.0, 1.0], [1, 1], [3, 1], [5, 1], [1, 1]])
    null = PooledNull()
    scored = against_null(table, null)
    assert scored.mean.tolist() == [2.5, 1] and scored.sd[1] == 0
    assert scored.p.tolist() == [2 / 5, 1], "one of four, and the true labels themselves"
    deviation = np.std([1, 3, 5, 1])
    assert scored.z.tolist() == pytest.approx([2.5 / (deviation + 0.5), 0])
    assert null.counts.sum() == 8
    high = float((5 - 2.5) / (deviation + 0.5))
    assert null.p(np.array([high]))[0] == pytest.approx(2 / 9)
    assert null.p(np.array([high + 0.02, -100.0])).tolist() == pytest.approx([1 / 9, 1])


def test_under_shuffled_labels_few_are_found_and_p_is_uniform() -> None:
    """Heads of very different numbers of codes, none of which has to do with the labels."""
    rng = np.random.default_rng(3)
    kinds = rng.integers(1, 60, size=100)
    runs_with_any, p = 0, []
    for run in range(20):
        codes = np.stack([rng.integers(each, size=120) for each in kinds], 1)
        scored, q = score_nodes([codes], labels_of(120, 60, seed=run), 60)
        runs_with_any += bool((q <= 0.1).any())
        p.append(scored.p)
    assert runs_with_any <= 6, "2 of 20 are expected"
    low = (np.concatenate(p) <= 0.05).mean()
    assert 0.01 < low <= 0.06, "counts are whole numbers: p is uniform or above"


def test_seeds_are_taken_together() -> None:
    codes, labels = [random_codes(seed) for seed in (1, 2)], labels_of(40, 30)
    scored, _ = score_nodes(codes, labels, KINDS)
    each = [node_scores(one, labels, KINDS) for one in codes]
    assert scored.score.tolist() == ((each[0][0] + each[1][0]) / 2).tolist()
    assert scored.mean == pytest.approx(np.mean(each, axis=0)[1:].mean(0))
