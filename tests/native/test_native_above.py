"""The compiled comparison with a limit against torch's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monosemy.native.above import above
from monosemy.native.build import library
from tests.native.by_threads import check_the_same_by_threads

pytestmark = pytest.mark.skipif(library("above") is None, reason="no C compiler here")


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 9),
    width=st.integers(1, 200),
    level=st.floats(-3, 3),
    per_latent=st.booleans(),
    seed=st.integers(0, 999),
    half=st.booleans(),
)
def test_it_is_a_comparison(
    n: int, width: int, level: float, per_latent: bool, seed: int, half: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    pre = torch.randn(n, width, generator=generator)
    pre = pre.bfloat16() if half else pre
    bias = torch.randn(width, generator=generator)
    limit = torch.randn(width, generator=generator) if per_latent else torch.tensor(level)
    whole = pre.float() + bias
    wanted = (whole > limit).nonzero(as_tuple=True)
    result = above(pre, bias, limit)
    assert result is not None
    assert torch.equal(result[0], wanted[0]) and torch.equal(result[1], wanted[1])
    assert torch.equal(result[2], whole[wanted])


def test_threads_change_no_bit() -> None:
    pre = torch.randn(64, 999, generator=torch.Generator().manual_seed(0))
    check_the_same_by_threads(lambda: above(pre, torch.zeros(999), 1.0))


def test_what_is_no_number_breaks_nothing() -> None:
    pre = torch.zeros(3, 40)
    pre[0, ::3], pre[1, 7] = torch.nan, 2.0
    rows, latents, values = above(pre, torch.zeros(40), 1.0)  # type: ignore[misc]
    assert len(rows) == len(latents) == len(values)
    assert (1, 7, 2.0) in zip(rows.tolist(), latents.tolist(), values.tolist(), strict=True)


def test_none_where_no_kernel_can() -> None:
    assert above(torch.zeros(2, 8).double(), torch.zeros(8), 0.0) is None
    assert above(torch.zeros(2, 8), torch.zeros(8).double(), 0.0) is None
    assert above(torch.zeros(8, 2).T, torch.zeros(8), 0.0) is None
