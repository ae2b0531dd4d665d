"""Top-k against a stable sort, in Triton's interpreter: run by ``test_triton_kernels.py``."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from monosemy.native.gpu import largest as kernels
from monosemy.native.gpu.device import ready
from monosemy.native.largest import largest
from monosemy.saes.selection import top_latents
from tests.support.campaign import wider

INF, NAN = float("inf"), float("nan")


def by_sorting(pre: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest, equal ones from the left, in rising order of their indices."""
    whole = pre.float() + bias
    order = whole.sort(dim=1, descending=True, stable=True).indices
    indices = order[:, :k].sort(dim=1).values
    return whole.gather(1, indices), indices


def check(pre: Tensor, bias: Tensor, k: int, size: int) -> None:
    values, indices = kernels.largest(pre, bias, k, size)
    wanted, at = by_sorting(pre, bias, k)
    assert values.dtype == torch.float32 and indices.dtype == torch.int64
    assert torch.equal(indices, at)
    torch.testing.assert_close(values, wanted, rtol=0, atol=0, equal_nan=True)


def test_the_kernels_run_here() -> None:
    assert ready(torch.device("cpu"))


@pytest.mark.campaign
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 6),
    width=st.integers(1, 400),
    share=st.floats(0, 1),
    size=st.sampled_from([16, 32, 64, 128]),
    levels=st.sampled_from([1, 2, 5, 1000]),
    lowest=st.sampled_from([-4.0, 0.0, -100.0]),
    half=st.booleans(),
    seed=st.integers(0, 9999),
)
def test_any_shape_with_ties_infinities_and_nan(
    n: int, width: int, share: float, size: int, levels: int, lowest: float, half: bool, seed: int
) -> None:
    """Few levels make nearly all entries equal; a lowest of -100 leaves none positive."""
    generator = torch.Generator().manual_seed(seed)
    k = max(1, int(share * width))
    pre = torch.randint(levels, (n, width), generator=generator) / levels * 8 + lowest
    odd = torch.randint(20, (n, width), generator=generator)
    for number, value in ((0, -INF), (1, INF), (2, NAN), (3, -0.0), (4, 1e-42)):
        if seed % 3 == 0 or number == seed % 11:
            pre = pre.masked_fill(odd == number, value)
    bias = torch.randint(3, (width,), generator=generator) / 2.0
    check(pre.bfloat16() if half else pre, bias, k, size)


@pytest.mark.parametrize("half", [False, *wider(True)])
@pytest.mark.parametrize(("width", "k"), [(3001, 200), (130, 130), *wider((5000, 64), (4096, 1))])
def test_several_tiles_and_a_width_that_fills_none(width: int, k: int, half: bool) -> None:
    generator = torch.Generator().manual_seed(width)
    pre, bias = torch.randn(5, width, generator=generator), torch.randn(width, generator=generator)
    size = kernels.group_size(width, k)
    assert size is not None
    check(pre.bfloat16() if half else pre, bias, k, size)


def test_planted_entries() -> None:
    bias, pre = torch.zeros(300), torch.full((2, 300), -1.0)
    pre[0, [5, 99, 298]] = torch.tensor([2.0, 7.0, 3.0])
    values, indices = kernels.largest(pre, bias, 5, 32)
    assert indices.tolist() == [[0, 1, 5, 99, 298], [0, 1, 2, 3, 4]]  # what is over: from the left
    assert values.tolist() == [[-1, -1, 2, 7, 3], [-1] * 5]
    bias[200] = 100.0
    assert (kernels.largest(pre, bias, 1, 16)[1] == 200).all()


def test_the_two_zeros_tie_and_minus_infinity_is_an_entry() -> None:
    pre = torch.tensor([[-0.0, 0.0, -0.0, 0.0], [-INF, -INF, 1.0, -INF]])
    values, indices = kernels.largest(pre, torch.full((4,), -0.0), 2, 16)
    assert indices.tolist() == [[0, 1], [0, 2]]
    assert values.tolist() == [[0.0, 0.0], [-INF, 1.0]]


def test_nan_of_either_sign_is_seen() -> None:
    pre = torch.zeros(2, 40)
    pre[0, 30] = NAN
    pre[1, 30] = torch.tensor(-1).to(torch.int32).view(torch.float32)  # NaN with its sign bit set
    values, indices = kernels.largest(pre, torch.zeros(40), 1, 16)
    assert values.isnan().all() and (indices == 30).all()


def test_the_bias_is_added_in_float32() -> None:
    pre = torch.full((1, 64), 256.0, dtype=torch.bfloat16)
    bias = torch.zeros(64)
    bias[40] = 0.25  # lost in bfloat16
    values, indices = kernels.largest(pre, bias, 1, 16)
    assert indices.item() == 40 and values.item() == 256.25


def test_the_sizes_that_are_trained() -> None:
    for width, k in ((65_536, 64), (131_072, 64), (16_384, 32), (1_048_576, 64)):
        size = kernels.group_size(width, k)
        assert size is not None and max(width // size, k * size) <= 8192
    assert kernels.group_size(65_536, 2_000) is None
    assert largest(torch.zeros(1, 65_536), torch.zeros(65_536), 2_000) is None


def test_dispatch_takes_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    pre, bias = torch.randn(3, 90, generator=torch.Generator().manual_seed(0)), torch.zeros(90)
    _, indices = largest(pre, bias, 4)  # type: ignore[misc]
    assert (indices.diff(dim=1) > 0).all()  # rising: Triton's, not the heap's
    assert largest(pre.double(), bias.double(), 4) is None
    assert largest(torch.zeros(0, 90), bias, 4)[0].shape == (0, 4)  # type: ignore[index]
    monkeypatch.setenv("MONOSEMY_NATIVE", "0")
    assert largest(pre, bias, 4) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_encoder_by_kernels_and_without(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(3)
    x, W = (torch.randn(s, generator=generator) for s in ((12, 16), (16, 500)))
    b = torch.zeros(500)  # no bias: bfloat16 adds it differently without the kernels
    indices, values = top_latents(x, W, b, 9, dtype)
    monkeypatch.setenv("MONOSEMY_NATIVE", "0")
    at, wanted = top_latents(x, W, b, 9, dtype)
    assert torch.equal(values.sort(1).values, wanted.sort(1).values)
    if dtype == torch.float32:
        assert torch.equal(indices, at.sort(1).values)
