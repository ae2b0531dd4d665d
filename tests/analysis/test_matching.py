"""Matching of features: planted permutations, brute force, ties."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monosemy.analysis.matching import (
    Compared,
    assign,
    assign_greedily,
    compare,
    cosine_blocks,
    match,
    mutual,
    rotated,
)
from monosemy.analysis.summary import summarise


def decoders(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def compared(a: torch.Tensor, b: torch.Tensor, k: int = 3, **options: bool) -> Compared:
    return compare(cosine_blocks(a, b, block=7), len(a), len(b), k, **options)


@pytest.mark.parametrize("method", ["mutual", "hungarian"])
@pytest.mark.parametrize("dense", [True, False])
def test_a_permuted_noisy_copy_is_found_again(method, dense: bool) -> None:
    a = decoders(200, 64)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    b = 3.0 * a[order] + 0.3 * decoders(200, 64, 2)
    partners = match(compared(a, b, dense=dense), method)
    assert torch.equal(order[torch.from_numpy(partners)], torch.arange(200))


def test_blocks_give_what_the_whole_matrix_gives() -> None:
    a, b = decoders(40, 16), decoders(25, 16, 1)
    unit_a, unit_b = (torch.nn.functional.normalize(x, dim=1) for x in (a, b))
    whole = unit_a @ unit_b.T
    comparison = compared(a, b, k=4, dense=True)
    torch.testing.assert_close(torch.from_numpy(comparison.dense), whole)
    values, indices = whole.topk(4, dim=1)
    torch.testing.assert_close(torch.from_numpy(comparison.forward.values), values)
    assert np.array_equal(comparison.forward.indices, indices.numpy())
    values, indices = whole.T.topk(4, dim=1)
    torch.testing.assert_close(torch.from_numpy(comparison.backward.values), values)
    assert np.array_equal(comparison.backward.indices, indices.numpy())


def test_more_neighbours_than_there_are() -> None:
    comparison = compared(decoders(3, 8), decoders(2, 8, 1), k=10)
    assert comparison.forward.indices.shape == (3, 2)
    assert comparison.backward.indices.shape == (2, 3)


def test_mutual_by_hand() -> None:
    forward, backward = np.array([1, 1, 0]), np.array([2, 0])
    assert mutual(forward, backward).tolist() == [1, -1, 0]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**31))
def test_assignment_against_brute_force(n: int, m: int, seed: int) -> None:
    similarity = np.random.default_rng(seed).normal(size=(n, m)).astype(np.float32)
    partners = assign(similarity)
    taken = partners[partners >= 0]
    assert len(set(taken.tolist())) == len(taken) == min(n, m)
    total = sum(similarity[row, column] for row, column in enumerate(partners) if column >= 0)
    square = similarity if n <= m else similarity.T
    best = max(
        sum(square[row, column] for row, column in enumerate(chosen))
        for chosen in permutations(range(square.shape[1]), square.shape[0])
    )
    assert total == pytest.approx(best, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 2**31))
def test_greedy_is_one_to_one_and_at_least_half_the_best(n: int, m: int, seed: int) -> None:
    similarity = np.random.default_rng(seed).random((n, m)).astype(np.float32)
    comparison = compare([(0, torch.from_numpy(similarity))], n, m, max(n, m))
    partners = assign_greedily(comparison)
    taken = partners[partners >= 0]
    assert len(set(taken.tolist())) == len(taken) == min(n, m)
    rows = np.flatnonzero(partners >= 0)
    best = assign(similarity)
    kept = np.flatnonzero(best >= 0)
    assert similarity[rows, partners[rows]].sum() >= 0.5 * similarity[kept, best[kept]].sum()


def test_a_rotation_keeps_the_geometry_and_loses_the_partners() -> None:
    a = decoders(300, 48)
    turned = rotated(a)
    torch.testing.assert_close(turned @ turned.T, a @ a.T, rtol=1e-3, atol=1e-3)
    assert compared(a, a).forward.values[:, 0].min() > 0.999
    assert compared(a, turned).forward.values[:, 0].max() < 0.8
    assert torch.equal(rotated(a), turned) and not torch.equal(rotated(a, 1), turned)


def test_a_summary_by_hand() -> None:
    similarity = torch.tensor([[1.0, 0.2], [0.3, 0.6], [0.1, 0.5]])
    comparison = compare([(0, similarity)], 3, 2, 2)
    partners = match(comparison, "mutual")
    assert partners.tolist() == [0, 1, -1]
    values = np.array([1.0, 0.6, 0.0], np.float32)
    summary = summarise(comparison, partners, values, np.array([0.4, 0.5], np.float32), values)
    assert (summary["matched"], summary["matched_share_b"]) == (2, 1.0)
    assert summary["mean_matched"] == pytest.approx(0.8)
    assert summary["matched_above"] == {"0.5": 1.0, "0.7": 0.5, "0.9": 0.5}
    assert summary["mean_best_a"] == pytest.approx((1.0 + 0.6 + 0.5) / 3)
    assert summary["above_null"] == pytest.approx(2 / 3)
    assert sum(summary["histogram"]["counts"]) == 3
