"""Sums of a few weighted rows each, and products with single rows: all that sparse codes need.

Decoding, the gradients of decoder and encoder, and those of the activations are of these two forms.
Sums run in a fixed order, without atomics, in float32 whatever the rows are: equal inputs give
equal bits.  A program holds ``J`` partial sums of ``D`` columns, so that J rows are on their way
from memory at once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from monosemy.native.gpu.device import active

_CHUNK = 256
"""A bag with more entries is summed by several programs; see ``bag_sums``."""


def columns_at_once(d: int) -> int:
    """256, less for narrower rows: what is over at the end of 2,304 or 4,096 columns is nothing."""
    return max(16, min(256, int(triton.next_power_of_2(d))))


def weighted_sums(indices_NK: Tensor, weights_NK: Tensor, rows_FD: Tensor) -> Tensor:
    """``sum_k weights[n, k] * rows[indices[n, k]]``, float32 ``[n, d]``.

    Indices int64 or int32, weights and rows float32 or bfloat16; all contiguous.
    """
    n, width = indices_NK.shape
    d, columns = rows_FD.shape[1], columns_at_once(rows_FD.shape[1])
    out = torch.empty(n, d, device=rows_FD.device)
    if out.numel():
        with active(rows_FD.device):
            weighted_sums_kernel[(n, triton.cdiv(d, columns))](
                indices_NK, weights_NK, rows_FD, out, width, d, J=16, D=columns, num_warps=4
            )
    return out


def bag_sums(
    bags_E: Tensor, members_E: Tensor, weights_E: Tensor, rows_ND: Tensor, n_bags: int
) -> tuple[Tensor, Tensor]:
    """``out[b] = sum over entries of bag b of weight * rows[member]``, and the sums of the weights.

    ``bags_E`` rises.  Returns float32 ``[n_bags, d]`` and ``[n_bags]``; empty bags are 0.  Some
    latents fire on most tokens and most on few: a whole chunk of entries that belong to one bag is
    summed by a program of its own first, so that none has more than two chunks of entries to add.
    """
    device, d = rows_ND.device, rows_ND.shape[1]
    out, totals = torch.empty(n_bags, d, device=device), torch.empty(n_bags, device=device)
    starts = torch.searchsorted(bags_E, torch.arange(n_bags + 1, device=device).to(bags_E.dtype))
    chunks, columns = len(bags_E) // _CHUNK, columns_at_once(d)
    partial = torch.empty(chunks, d, device=device)
    partial_totals = torch.empty(chunks, device=device)
    tiles = triton.cdiv(d, columns)
    shape = {"CHUNK": _CHUNK, "J": 8, "D": columns, "num_warps": 4}
    with active(device):
        if chunks and tiles:
            chunk_sums_kernel[(chunks, tiles)](
                bags_E, members_E, weights_E, rows_ND, partial, partial_totals, d, **shape
            )
        if n_bags and tiles:
            bag_sums_kernel[(n_bags, tiles)](
                starts, members_E, weights_E, rows_ND, partial, partial_totals, out, totals, d,
                **shape,
            )  # fmt: skip
    return out, totals


def products(indices_NK: Tensor, x_ND: Tensor, rows_FD: Tensor) -> Tensor:
    """``out[n, k] = x[n] . rows[indices[n, k]]``, float32 ``[n, k]``."""
    n, width = indices_NK.shape
    out = torch.empty(n, width, device=x_ND.device)
    _products(indices_NK, indices_NK, x_ND, rows_FD, out, (n, width), ragged=False)
    return out


def bag_products(bags_E: Tensor, members_E: Tensor, x_BD: Tensor, rows_FD: Tensor) -> Tensor:
    """``out[e] = x[bag of e] . rows[member of e]``, float32 ``[entries]``."""
    out = torch.empty(len(bags_E), device=x_BD.device)
    _products(bags_E, members_E, x_BD, rows_FD, out, (1, len(bags_E)), ragged=True)
    return out


def _products(
    bags: Tensor,
    members: Tensor,
    x: Tensor,
    rows: Tensor,
    out: Tensor,
    shape: tuple[int, int],
    ragged: bool,
) -> None:
    n, width = shape
    if out.numel() == 0:
        return
    d, at_once = x.shape[1], 8 if ragged else 16
    with active(x.device):
        products_kernel[(n * triton.cdiv(width, at_once),)](
            bags, members, x, rows, out, width, d,
            RAGGED=ragged, J=at_once, D=columns_at_once(d), num_warps=4,
        )  # fmt: skip


@triton.jit
def _added(
    sums: tl.tensor,
    totals: tl.tensor,
    members: tl.tensor,
    weights: tl.tensor,
    rows: tl.tensor,
    begin: tl.tensor,
    end: tl.tensor,
    columns: tl.tensor,
    d: tl.tensor,
    J: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """``sums [J, D]`` and ``totals [J]`` with the entries from ``begin`` to ``end`` added."""
    for start in range(begin, end, J):
        entry = start + tl.arange(0, J)
        there = entry < end
        member = tl.load(members + entry, mask=there, other=0).to(tl.int64)
        weight = tl.load(weights + entry, mask=there, other=0.0).to(tl.float32)
        inside = there[:, None] & (columns < d)[None, :]
        row = tl.load(rows + (member * d)[:, None] + columns[None, :], mask=inside, other=0.0)
        sums += weight[:, None] * row.to(tl.float32)
        totals += weight
    return sums, totals


@triton.jit
def weighted_sums_kernel(
    indices: tl.tensor,
    weights: tl.tensor,
    rows: tl.tensor,
    out: tl.tensor,
    width: tl.tensor,
    d: tl.tensor,
    J: tl.constexpr,
    D: tl.constexpr,
) -> None:
    """One token, some columns."""
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * D + tl.arange(0, D)
    sums, totals = tl.zeros((J, D), tl.float32), tl.zeros((J,), tl.float32)
    begin = token * width
    sums, totals = _added(sums, totals, indices, weights, rows, begin, begin + width, columns, d, J)
    tl.store(out + token * d + columns, tl.sum(sums, 0), mask=columns < d)


@triton.jit
def chunk_sums_kernel(
    bags: tl.tensor,
    members: tl.tensor,
    weights: tl.tensor,
    rows: tl.tensor,
    partial: tl.tensor,
    partial_totals: tl.tensor,
    d: tl.tensor,
    CHUNK: tl.constexpr,
    J: tl.constexpr,
    D: tl.constexpr,
) -> None:
    """One chunk, some columns; nothing where the chunk is not all of one bag."""
    chunk = tl.program_id(0).to(tl.int64)
    begin = chunk * CHUNK
    if tl.load(bags + begin) == tl.load(bags + begin + CHUNK - 1):
        columns = tl.program_id(1) * D + tl.arange(0, D)
        sums, totals = tl.zeros((J, D), tl.float32), tl.zeros((J,), tl.float32)
        sums, totals = _added(
            sums, totals, members, weights, rows, begin, begin + CHUNK, columns, d, J
        )
        tl.store(partial + chunk * d + columns, tl.sum(sums, 0), mask=columns < d)
        tl.store(partial_totals + chunk, tl.sum(totals, 0))


@triton.jit
def bag_sums_kernel(
    starts: tl.tensor,
    members: tl.tensor,
    weights: tl.tensor,
    rows: tl.tensor,
    partial: tl.tensor,
    partial_totals: tl.tensor,
    out: tl.tensor,
    bag_totals: tl.tensor,
    d: tl.tensor,
    CHUNK: tl.constexpr,
    J: tl.constexpr,
    D: tl.constexpr,
) -> None:
    """One bag, some columns: entries before its first whole chunk, the chunks, entries after."""
    bag = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * D + tl.arange(0, D)
    begin, end = tl.load(starts + bag), tl.load(starts + bag + 1)
    first, last = tl.cdiv(begin, CHUNK), end // CHUNK
    whole = first < last
    head, tail = tl.where(whole, first * CHUNK, end), tl.where(whole, last * CHUNK, end)
    sums, totals = tl.zeros((J, D), tl.float32), tl.zeros((J,), tl.float32)
    sums, totals = _added(sums, totals, members, weights, rows, begin, head, columns, d, J)
    for start in range(first, last, J):
        chunk = start + tl.arange(0, J)
        there = chunk < last
        inside = there[:, None] & (columns < d)[None, :]
        sums += tl.load(partial + (chunk * d)[:, None] + columns[None, :], mask=inside, other=0.0)
        totals += tl.load(partial_totals + chunk, mask=there, other=0.0)
    sums, totals = _added(sums, totals, members, weights, rows, tail, end, columns, d, J)
    tl.store(out + bag * d + columns, tl.sum(sums, 0), mask=columns < d)
    tl.store(bag_totals + bag, tl.sum(totals, 0), mask=tl.program_id(1) == 0)


@triton.jit
def products_kernel(
    bags: tl.tensor,
    members: tl.tensor,
    x: tl.tensor,
    rows: tl.tensor,
    out: tl.tensor,
    width: tl.tensor,
    d: tl.tensor,
    RAGGED: tl.constexpr,
    J: tl.constexpr,
    D: tl.constexpr,
) -> None:
    """J entries: of one token, or, ``RAGGED``, of the bags that ``bags`` says."""
    parts = tl.cdiv(width, J)
    token = (tl.program_id(0) // parts).to(tl.int64)
    place = (tl.program_id(0) % parts) * J + tl.arange(0, J)
    entry, there = token * width + place, place < width
    member = tl.load(members + entry, mask=there, other=0).to(tl.int64)
    sums = tl.zeros((J, D), tl.float32)
    for start in range(0, d, D):
        columns = start + tl.arange(0, D)
        inside = there[:, None] & (columns < d)[None, :]
        row = tl.load(rows + (member * d)[:, None] + columns[None, :], mask=inside, other=0.0)
        if RAGGED:
            bag = tl.load(bags + entry, mask=there, other=0).to(tl.int64)
            at = (bag * d)[:, None] + columns[None, :]
            factor = tl.load(x + at, mask=inside, other=0.0)
        else:
            factor = tl.load(x + token * d + columns, mask=columns < d, other=0.0)[None, :]
        sums += factor.to(tl.float32) * row.to(tl.float32)
    tl.store(out + entry, tl.sum(sums, 1), mask=there)
