"""Splits by document hash: shares, independence, edges."""

from __future__ import annotations

import numpy as np
import pytest

from monosemy.data.splits import explanation_split, heldout_documents

HASHES = np.random.default_rng(0).integers(0, 2**64, 40_000, dtype=np.uint64)


def test_explanation_split_is_50_20_30() -> None:
    shares = np.bincount(explanation_split(HASHES), minlength=3) / len(HASHES)
    np.testing.assert_allclose(shares, [0.5, 0.2, 0.3], atol=0.01)


def test_explanation_split_depends_on_each_hash_alone() -> None:
    whole = explanation_split(HASHES[:100])
    one_by_one = [int(explanation_split(HASHES[i : i + 1])[0]) for i in range(100)]
    assert whole.tolist() == one_by_one


def test_known_answers_never_change() -> None:
    """A change here would move documents between splits of everything that is stored."""
    hashes = np.array([0, 1, 2, 3, 2**63, 2**64 - 1], dtype=np.uint64)
    assert explanation_split(hashes).tolist() == [1, 0, 2, 0, 2, 0]
    assert heldout_documents(hashes, 0.5).tolist() == [False, False, False, False, True, False]


@pytest.mark.parametrize("fraction", [0.1, 0.35])
def test_heldout_has_its_share_and_is_independent_of_the_explanation_split(
    fraction: float,
) -> None:
    heldout = heldout_documents(HASHES, fraction)
    split = explanation_split(HASHES)
    assert abs(heldout.mean() - fraction) < 0.01
    for part in range(3):
        assert abs(heldout[split == part].mean() - fraction) < 0.02


def test_neighbouring_hashes_are_split_as_well_as_random_ones() -> None:
    shares = np.bincount(explanation_split(np.arange(40_000, dtype=np.uint64))) / 40_000
    np.testing.assert_allclose(shares, [0.5, 0.2, 0.3], atol=0.01)


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.899])
@pytest.mark.parametrize("count", [2, 3, 10])
def test_few_documents_leave_neither_side_empty(count: int, fraction: float) -> None:
    for start in range(20):
        heldout = heldout_documents(HASHES[start : start + count], fraction)
        assert heldout.any()
        assert not heldout.all()


def test_one_document_is_trained_on_or_held_out_and_none_is_no_error() -> None:
    assert heldout_documents(HASHES[:1], 0.5).shape == (1,)
    assert heldout_documents(HASHES[:0], 0.5).shape == (0,)
    assert explanation_split(HASHES[:0]).shape == (0,)
