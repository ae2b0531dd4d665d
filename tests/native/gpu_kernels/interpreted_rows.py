"""Sparse sums and products against dense ones, in Triton's interpreter: run by
``test_triton_kernels.py``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from monosemy.native import rows as dispatch
from monosemy.native.gpu import rows as kernels
from monosemy.native.gpu.device import ready
from monosemy.saes.ragged import Entries, entry_sums, entry_values
from monosemy.saes.sparse_ops import row_products, scatter_rows, selected_values, weighted_rows


def whole_numbers(generator: torch.Generator, *shape: int) -> Tensor:
    """Sums and products of these are exact in float32, and they are bfloat16 numbers."""
    return torch.randint(-8, 9, shape, generator=generator).float()


def test_the_kernels_run_here() -> None:
    assert ready(torch.device("cpu"))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 6),
    width=st.integers(1, 40),
    latents=st.integers(1, 20),
    d=st.integers(1, 300),
    half=st.booleans(),
    narrow=st.booleans(),
    seed=st.integers(0, 9999),
)
def test_sums_and_products_are_exact_where_numbers_are(
    n: int, width: int, latents: int, d: int, half: bool, narrow: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    indices = torch.randint(latents, (n, width), generator=generator)
    weights, x = whole_numbers(generator, n, width), whole_numbers(generator, n, d)
    rows = whole_numbers(generator, latents, d)
    dense = torch.zeros(n, latents).index_put(
        (torch.arange(n)[:, None], indices), weights, accumulate=True
    )
    kind = torch.bfloat16 if half else torch.float32
    own_indices = indices.to(torch.int32) if narrow else indices
    assert torch.equal(kernels.weighted_sums(own_indices, weights, rows.to(kind)), dense @ rows)
    wanted = (x @ rows.T).gather(1, indices)
    assert torch.equal(kernels.products(own_indices, x.to(kind), rows.to(kind)), wanted)
    tokens = torch.arange(n).repeat_interleave(width)
    ragged = kernels.bag_products(tokens, own_indices.flatten(), x, rows.to(kind))
    assert torch.equal(ragged, wanted.flatten())
    bags, order = indices.flatten().sort(stable=True)
    sums, totals = kernels.bag_sums(
        bags, order // width, weights.flatten()[order], x.to(kind), latents
    )
    assert torch.equal(sums, dense.T @ x) and torch.equal(totals, dense.sum(0))


@pytest.mark.parametrize(
    "lengths",
    [
        [256, 256],  # chunks that are bags
        [0, 255, 257, 0],
        [1, 255, 512, 3, 700, 0],  # a bag that begins at a chunk's edge, and one within
        [1100],
        [511],  # one whole chunk, then not quite another
        [3, 2900, 5],  # more chunks than are added at a time
        [0, 0, 0],
    ],
)
def test_long_bags(lengths: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    bags = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    members = torch.randint(50, (len(bags),), generator=generator)
    weights, rows = whole_numbers(generator, len(bags)), whole_numbers(generator, 50, 20)
    sums, totals = kernels.bag_sums(bags, members, weights, rows, len(lengths))
    wanted = torch.zeros(len(lengths), 20).index_add_(0, bags, weights[:, None] * rows[members])
    assert torch.equal(sums, wanted)
    assert torch.equal(totals, torch.zeros(len(lengths)).index_add_(0, bags, weights))


def some(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def compared(
    monkeypatch: pytest.MonkeyPatch, form: Callable[..., Tensor], *wanted_of: Tensor
) -> None:
    """``form`` and its gradients by kernels and by tensor operations, on the same numbers."""
    both = []
    for switch in ("1", "0"):
        monkeypatch.setenv("MONOSEMY_NATIVE", switch)
        leaves = [tensor.clone().requires_grad_() for tensor in wanted_of]
        out = form(*leaves)
        upstream = some(*out.shape, seed=99)
        both.append((out.detach(), *torch.autograd.grad(out, leaves, upstream)))
    for ours, wanted in zip(*both, strict=True):
        assert ours.dtype == wanted.dtype and wanted.abs().sum() > 0
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)


N, K, F, D = 14, 5, 40, 23
INDICES = torch.randint(30, (N, K), generator=torch.Generator().manual_seed(1))


def test_the_decoder_and_its_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(weights: Tensor, rows: Tensor) -> Tensor:
        return weighted_rows(INDICES, weights, rows)

    compared(monkeypatch, decode, some(N, K, seed=2), some(F, D, seed=3))


def test_the_encoder_and_its_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = some(N, K, seed=4)  # some not positive: no gradient there

    def encode(x: Tensor, W_FD: Tensor, b: Tensor) -> Tensor:
        return selected_values(x, W_FD.T, b, INDICES, chosen)

    compared(monkeypatch, encode, some(N, D, seed=5), some(F, D, seed=6), some(F, seed=7))


def ragged_entries() -> Entries:
    """Tokens with 0 to 12 entries."""
    counts = torch.randint(13, (N,), generator=torch.Generator().manual_seed(8))
    rows = torch.repeat_interleave(torch.arange(N), counts)
    latents = torch.randint(30, (len(rows),), generator=torch.Generator().manual_seed(9))
    return Entries(rows, latents, some(len(rows), seed=10).abs())


def test_codes_without_padding_and_their_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = ragged_entries()
    assert entries.rows.bincount(minlength=N).eq(0).any()

    def decode(values: Tensor, rows: Tensor) -> Tensor:
        return entry_sums(entries._replace(values=values), rows, N)

    def encode(x: Tensor, W_FD: Tensor, b: Tensor) -> Tensor:
        return entry_values(entries, x, W_FD.T, b).values

    compared(monkeypatch, decode, entries.values, some(F, D, seed=3))
    compared(monkeypatch, encode, some(N, D, seed=5), some(F, D, seed=6), some(F, seed=7))


def test_no_codes_at_all() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    out = entry_sums(Entries(none, none, torch.zeros(0)), some(F, D, seed=1), N)
    assert torch.equal(out, torch.zeros(N, D))
    assert weighted_rows(none.view(0, 3), torch.zeros(0, 3), some(F, D, seed=1)).shape == (0, D)
    assert (scatter_rows(none.view(0, 3), torch.zeros(0, 3), torch.zeros(0, D), F) == 0).all()
    assert row_products(none.view(0, 3), torch.zeros(0, D), some(F, D, seed=1)).shape == (0, 3)


def test_bfloat16_rows_give_bfloat16_of_float32_sums() -> None:
    rows = torch.ones(300, 17, dtype=torch.bfloat16)
    indices = torch.arange(300)[None]
    sums = dispatch.weighted_sums(indices, torch.ones(1, 300), rows)
    assert sums is not None and sums.dtype == torch.bfloat16
    assert (sums == 300).all()  # added in bfloat16, it would stay at 256


def test_what_the_kernels_do_not_take() -> None:
    double = some(F, D, seed=1).double()
    assert dispatch.weighted_sums(INDICES, some(N, K, seed=2).double(), double) is None
    assert dispatch.products(INDICES, some(N, D, seed=2), double) is None
    torch.testing.assert_close(
        row_products(INDICES, double[:N], double), (double[:N] @ double.T).gather(1, INDICES)
    )
