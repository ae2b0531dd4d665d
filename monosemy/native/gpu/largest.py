"""Exact top-k of each row of pre-activations, in three kernels.

A row is cut into groups of ``G`` neighbours.  The k largest entries lie in the k groups with the
largest maxima, so the row is read once for its maxima, and after that only ``k * G`` entries of it.
Both choices, of groups and of entries, are made by bisection over an order-preserving integer image
of the floats, held in registers, and compacted by one prefix sum.  Equal entries are taken from the
left.  That holds through both stages: groups are neighbours, and every group that ties for the last
place holds at least one entry that does, so an entry of a group that was left out has enough equal
ones before it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from monosemy.native.gpu.device import active

_MOST = 8192
"""Numbers that one program chooses among: 16 warps hold 16 each in a thread's registers."""

_TILE, _ROWS = 2048, 4
"""Entries of a row, and rows that share their biases, in one program of the first kernel."""


def group_size(width: int, k: int) -> int | None:
    """The power of two for which the two choices are smallest; None where one is too large."""
    sizes = [
        size
        for size in (16, 32, 64, 128)
        if _power(-(-width // size)) <= _MOST and _power(min(k, -(-width // size))) * size <= _MOST
    ]
    return min(sizes, key=lambda size: width // size + min(k * size, width), default=None)


def largest(pre_NF: Tensor, bias_F: Tensor, k: int, size: int) -> tuple[Tensor, Tensor]:
    """Values (float32) and indices (int64) ``[n, k]`` of the k largest of ``pre + bias`` per row.

    ``pre_NF`` is contiguous, float32 or bfloat16; the sum is taken in float32.  Indices rise.  NaN
    counts as larger than any number, as in ``torch.topk``.  ``size`` is that of ``group_size``.
    """
    n, width = pre_NF.shape
    device = pre_NF.device
    values = torch.empty(n, k, device=device)
    indices = torch.empty(n, k, dtype=torch.int64, device=device)
    if n == 0:
        return values, indices
    groups = triton.cdiv(width, size)
    chosen = min(k, groups)
    maxima = torch.empty(n, groups, dtype=torch.int32, device=device)
    selected = torch.empty(n, chosen, dtype=torch.int32, device=device)
    bias_F = bias_F.detach().contiguous()
    tile = min(_TILE // size, _power(groups))
    all_groups, candidates = _power(groups), _power(chosen)
    with active(device):
        group_maxima_kernel[(triton.cdiv(n, _ROWS), triton.cdiv(groups, tile))](
            pre_NF, bias_F, maxima, n, width, groups, ROWS=_ROWS, GROUPS=tile, G=size, num_warps=4
        )
        choose_groups_kernel[(n,)](
            maxima, selected, groups, chosen, M=all_groups, num_warps=warps(all_groups)
        )
        choose_entries_kernel[(n,)](
            pre_NF, bias_F, selected, values, indices, width, chosen, k,
            M=candidates, G=size, num_warps=warps(candidates * size),
        )  # fmt: skip
    return values, indices


def warps(numbers: int) -> int:
    """Sixteen numbers in each thread: with fewer, a multiprocessor has registers for fewer rows."""
    return max(1, min(16, numbers // 512))


def _power(number: int) -> int:
    return max(1, int(triton.next_power_of_2(number)))


@triton.jit
def _keys(pre: tl.tensor, bias: tl.tensor) -> tl.tensor:
    """int32 in the order of the floats: the bits, those below the sign flipped where negative.

    Both zeros are one; every NaN is the same and the largest.  No float has the smallest int32.
    """
    value = pre.to(tl.float32) + bias
    bits = tl.where(value == 0, 0.0, value).to(tl.int32, bitcast=True)
    key = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return tl.where(value != value, 0x7FC00000, key)


@triton.jit
def _floats(keys: tl.tensor) -> tl.tensor:
    """The reverse."""
    return (keys ^ ((keys >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _largest_of(keys: tl.tensor, wanted: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """Which of ``keys [M]`` are the ``wanted`` largest, and the rank of each among them by place.

    The largest bound that ``wanted`` keys reach is found bit by bit, from the smallest int32 up:
    its sign bit is set, so that flipping a bit raises the bound whichever bit it is.
    """
    one, bound = tl.full((), 1, tl.int32), tl.full((), -2147483648, tl.int32)
    for step in range(32):
        tried = bound ^ (one << (31 - step))
        reached = tl.sum((keys >= tried).to(tl.int32), 0)
        bound = tl.where(reached >= wanted, tried, bound)
    above, level = keys > bound, keys == bound
    room = wanted - tl.sum(above.to(tl.int32), 0)
    # Two counts in one prefix sum: neither reaches 2 ** 15.
    counts = tl.cumsum((above.to(tl.int32) << 16) + level.to(tl.int32), 0)
    levels = counts & 0xFFFF
    return above | (level & (levels <= room)), (counts >> 16) + tl.minimum(levels, room) - 1


@triton.jit
def group_maxima_kernel(
    pre: tl.tensor,
    bias: tl.tensor,
    maxima: tl.tensor,
    n: tl.tensor,
    width: tl.tensor,
    groups: tl.tensor,
    ROWS: tl.constexpr,
    GROUPS: tl.constexpr,
    G: tl.constexpr,
) -> None:
    """Keys of the largest entry of each group, int32 ``[n, groups]``; a few rows, some groups."""
    group = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    latent = group[:, None] * G + tl.arange(0, G)[None, :]
    inside = latent < width
    added = tl.load(bias + latent, mask=inside, other=0.0)
    first = tl.program_id(0).to(tl.int64) * ROWS
    for i in tl.static_range(ROWS):
        row = tl.minimum(first + i, n - 1)  # the last row may be done more than once
        entry = tl.load(pre + row * width + latent, mask=inside, other=0.0)
        keys = tl.where(inside, _keys(entry, added), -2147483648)
        tl.store(maxima + row * groups + group, tl.max(keys, 1), mask=group < groups)


@triton.jit
def choose_groups_kernel(
    maxima: tl.tensor, selected: tl.tensor, groups: tl.tensor, wanted: tl.tensor, M: tl.constexpr
) -> None:
    """The ``wanted`` groups with the largest maxima, rising, int32 ``[n, wanted]``; one row."""
    row = tl.program_id(0).to(tl.int64)
    group = tl.arange(0, M)
    keys = tl.load(maxima + row * groups + group, mask=group < groups, other=-2147483648)
    kept, place = _largest_of(keys, wanted)
    tl.store(selected + row * wanted + place, group, mask=kept)


@triton.jit
def choose_entries_kernel(
    pre: tl.tensor,
    bias: tl.tensor,
    selected: tl.tensor,
    values: tl.tensor,
    indices: tl.tensor,
    width: tl.tensor,
    chosen: tl.tensor,
    k: tl.tensor,
    M: tl.constexpr,
    G: tl.constexpr,
) -> None:
    """The k largest entries of the ``chosen`` groups, values and indices ``[n, k]``; one row."""
    row = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, M)
    group = tl.load(selected + row * chosen + slot, mask=slot < chosen, other=0)
    latent = group[:, None] * G + tl.arange(0, G)[None, :]
    inside = (slot < chosen)[:, None] & (latent < width)
    entry = tl.load(pre + row * width + latent, mask=inside, other=0.0)
    added = tl.load(bias + latent, mask=inside, other=0.0)
    keys = tl.reshape(tl.where(inside, _keys(entry, added), -2147483648), (M * G,))
    kept, place = _largest_of(keys, k)
    tl.store(values + row * k + place, _floats(keys), mask=kept)
    tl.store(indices + row * k + place, tl.reshape(latent, (M * G,)).to(tl.int64), mask=kept)
