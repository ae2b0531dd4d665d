"""The compiled top-k against torch's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monosemy.native.build import library
from monosemy.native.largest import largest
from tests.native.by_threads import check_the_same_by_threads

pytestmark = pytest.mark.skipif(library("largest") is None, reason="no C compiler here")


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 9),
    width=st.integers(1, 200),
    share=st.floats(0, 1),
    seed=st.integers(0, 999),
    half=st.booleans(),
)
def test_it_is_top_k(n: int, width: int, share: float, seed: int, half: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    k = max(1, int(share * width))
    pre = torch.randn(n, width, generator=generator)
    pre = pre.bfloat16() if half else pre
    bias = torch.randn(width, generator=generator)
    result = largest(pre, bias, k)
    assert result is not None
    values, indices = result
    whole = pre.float() + bias
    wanted = whole.topk(k, dim=1).values
    assert torch.equal(values.sort(1, descending=True).values, wanted)
    assert torch.equal(whole.gather(1, indices), values)
    assert all(len(set(row)) == k for row in indices.tolist())


def test_equal_entries_and_rising_rows() -> None:
    bias = torch.zeros(50)
    values, indices = largest(torch.ones(2, 50), bias, 7)  # type: ignore[misc]
    assert (values == 1).all() and len(set(indices[0].tolist())) == 7
    values, indices = largest(torch.arange(50.0).repeat(2, 1), bias, 3)  # type: ignore[misc]
    assert sorted(indices[1].tolist()) == [47, 48, 49]


def test_threads_change_no_bit() -> None:
    pre = torch.randn(64, 999, generator=torch.Generator().manual_seed(0))
    check_the_same_by_threads(lambda: largest(pre, torch.zeros(999), 16))


def test_rows_of_nan_are_seen() -> None:
    values, _ = largest(torch.full((2, 40), float("nan")), torch.zeros(40), 5)  # type: ignore[misc]
    assert values.isnan().all()


def test_what_it_cannot_do_it_leaves() -> None:
    assert largest(torch.ones(2, 8).double(), torch.zeros(8).double(), 2) is None
    assert largest(torch.ones(8, 2).T, torch.zeros(8), 2) is None
