"""The one dense product of an encoder, and the largest entries of each of its rows.

An input ``centred [n, d]`` may be ``[n, L, d]`` throughout: the columns of ``W_enc [d, d_sae]``
then come in L equal groups, of which each multiplies its own part (``SAE.encoder_input``).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from monosemy.native.above import above
from monosemy.native.largest import largest
from monosemy.saes.sparse_ops import row_products

_BLOCK_BYTES = {"cpu": 64 << 20, "cuda": 512 << 20}
"""Pre-activations that exist at once.  Smaller blocks would stay in a CPU's cache, but each product
lays the weights out anew, which at 8 MiB and 16,384 latents took as long as the product itself."""

_GROUP = 16


@torch.no_grad()
def top_latents(
    centred_ND: Tensor, W_enc: Tensor, b_enc: Tensor, k: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Indices and values ``[n, k]`` of the largest ``centred @ W_enc + b_enc`` per row.

    ``dtype`` is that of the product; values come back in the dtype of ``centred_ND``.  Rows are
    done a block at a time, so memory does not grow with n.
    """
    n = centred_ND.shape[0]
    indices = torch.empty(n, k, dtype=torch.int64, device=centred_ND.device)
    values = torch.empty(n, k, dtype=centred_ND.dtype, device=centred_ND.device)
    for start, product in _products(centred_ND, W_enc, dtype):
        block = largest(product, b_enc, k) or top_k(product.add_(b_enc.to(dtype)), k)
        values[start : start + len(product)] = block[0]
        indices[start : start + len(product)] = block[1]
    return indices, values


_SPARE = 16
"""Candidates beyond the k: rounding to bfloat16 moves a latent by a few places, not by so many."""


@torch.no_grad()
def exact_top_latents(
    centred_ND: Tensor, W_enc: Tensor, b_enc: Tensor, k: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """As ``top_latents`` in the dtype of the weights, with the dense product in the lower
    ``dtype``: it finds ``k + 16`` candidates, whose products are made anew, entry by entry."""
    count = min(k + _SPARE, W_enc.shape[1])
    near, _ = top_latents(centred_ND, W_enc, b_enc, count, dtype)
    values = row_products(near, centred_ND, W_enc.T.contiguous()) + b_enc[near]
    values, place = values.topk(k, dim=-1, sorted=False)
    return near.gather(1, place), values


def top_k(pre_NF: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As ``torch.topk(k, sorted=False)``, in less time where ``F`` is much larger than ``k``.

    The k largest entries lie in the k groups with the largest maxima, so only those are looked
    through.  Exact; which of several equal entries come along is not specified.
    """
    n, width = pre_NF.shape
    groups = width // _GROUP
    if width % _GROUP or groups < 8 * k:
        return pre_NF.topk(k, dim=-1, sorted=False)
    # Group g holds the entries g, g + groups, g + 2 * groups, ...: maxima over them vectorise.
    grouped = pre_NF.view(n, _GROUP, groups)
    best = grouped.amax(1).topk(k, dim=-1, sorted=False).indices
    candidates = grouped.gather(2, best[:, None].expand(-1, _GROUP, -1)).flatten(1)
    values, place = candidates.topk(k, dim=-1, sorted=False)
    return values, best.gather(1, place % k) + (place // k) * groups


@torch.no_grad()
def above_threshold(
    centred_ND: Tensor, W_enc: Tensor, b_enc: Tensor, threshold: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """All entries of ``centred @ W_enc + b_enc`` above ``threshold`` (a scalar or ``[d_sae]``),
    padded: indices and values ``[n, most of a row]``, at least one column wide."""
    entries = entries_above(centred_ND, W_enc, b_enc, threshold, dtype)
    assert entries is not None
    return padded(*entries, len(centred_ND))


@torch.no_grad()
def entries_above(
    centred_ND: Tensor,
    W_enc: Tensor,
    b_enc: Tensor,
    threshold: Tensor,
    dtype: torch.dtype,
    most: int | None = None,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The same without padding: rows (rising), latents and values; None if there are more than
    ``most``."""
    blocks, count = [], 0
    for start, product in _products(centred_ND, W_enc, dtype):
        rows, latents, values = _above(product, b_enc, threshold)
        count += len(rows)
        if most is not None and count > most:
            return None
        blocks.append((rows + start, latents, values.to(centred_ND.dtype)))
    rows, latents, values = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return rows, latents, values


@torch.no_grad()
def batch_top_k(
    centred_ND: Tensor,
    W_enc: Tensor,
    b_enc: Tensor,
    total: int,
    dtype: torch.dtype,
    guess: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The ``total`` largest positive entries of ``centred @ W_enc + b_enc`` over the whole batch.

    Padded as in ``above_threshold``; otherwise as ``largest_of_batch``.
    """
    entries = largest_of_batch(centred_ND, W_enc, b_enc, total, dtype, guess)
    return padded(*entries, len(centred_ND))


@torch.no_grad()
def largest_of_batch(
    centred_ND: Tensor,
    W_enc: Tensor,
    b_enc: Tensor,
    total: int,
    dtype: torch.dtype,
    guess: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same without padding: rows (rising), latents and values, each ``[at most total]``.

    Exact: blocks are cut at a guess of the smallest value kept (by default a little below that of
    the first block), and done again if it was too high.
    """
    bound = 0.0 if guess is None else max(0.0, guess)
    blocks: list[tuple[Tensor, Tensor, Tensor]] = []
    for start, product in _products(centred_ND, W_enc, dtype):
        if guess is None and start == 0 and len(product) < len(centred_ND):
            share = max(1, total * len(product) // len(centred_ND))
            pre = product + b_enc.to(dtype)
            bound = max(0.0, _GUESS * float(pre.flatten().topk(share).values[-1]))
        rows, latents, values = _above(product, b_enc, bound)
        blocks.append((rows + start, latents, values.to(centred_ND.dtype)))
    rows, latents, values = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    if len(values) < total and bound > 0:
        return largest_of_batch(centred_ND, W_enc, b_enc, total, dtype, guess=0.0)
    if len(values) > total:
        largest = values.topk(total, sorted=False).indices.sort().values
        rows, latents, values = rows[largest], latents[largest], values[largest]
    return rows, latents, values


_GUESS = 0.9
"""Of the first block's own threshold: blocks differ little, and too low a guess costs little."""


def padded(rows: Tensor, latents: Tensor, values: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Entries ``(row, latent, value)`` as ``[n, most of a row]``; the rest is latent 0, value 0."""
    order = rows.argsort(stable=True)
    rows = rows[order]
    counts = torch.zeros(n, dtype=torch.int64, device=rows.device)
    counts.index_add_(0, rows, torch.ones_like(rows))
    width = max(1, int(counts.max())) if n else 1
    place = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    indices = torch.zeros(n, width, dtype=torch.int64, device=rows.device)
    filled = torch.zeros(n, width, dtype=values.dtype, device=rows.device)
    indices[rows, place] = latents[order]
    filled[rows, place] = values[order]
    return indices, filled


def _above(
    product_NF: Tensor, b_enc: Tensor, limit: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (rising), latents and values of ``product + b_enc`` above the limit, a number or
    ``[d_sae]``; the product may be overwritten."""
    entries = above(product_NF, b_enc, limit)
    if entries is not None:
        return entries
    pre = product_NF.add_(b_enc.to(product_NF.dtype))
    least = limit.to(pre.dtype) if isinstance(limit, Tensor) else limit
    rows, latents = (pre > least).nonzero(as_tuple=True)
    return rows, latents, pre[rows, latents]


def _products(
    centred_ND: Tensor, W_enc: Tensor, dtype: torch.dtype
) -> Iterator[tuple[int, Tensor]]:
    """First row and product of each block; one block of none where there are no rows.

    All blocks are the same memory: what is wanted of one must be taken before the next.
    """
    weight = W_enc.to(dtype)
    groups = centred_ND.shape[1] if centred_ND.dim() == 3 else 1
    n, d_sae = len(centred_ND), W_enc.shape[1]
    rows = min(_block_rows(centred_ND.device, d_sae, weight.element_size()), max(1, n))
    memory = torch.empty(rows, d_sae, dtype=dtype, device=centred_ND.device)
    for start in range(0, max(1, n), rows):
        part = centred_ND[start : start + rows].to(dtype)
        product = memory[: len(part)]
        if groups == 1:
            torch.mm(part.flatten(1), weight, out=product)
        else:
            blocks = (weight.tensor_split(groups, dim=1), product.tensor_split(groups, dim=1))
            for group, (own, out) in enumerate(zip(*blocks, strict=True)):
                torch.mm(part[:, group], own, out=out)
        yield start, product


def _block_rows(device: torch.device, d_sae: int, bytes_each: int) -> int:
    budget = _BLOCK_BYTES.get(device.type, _BLOCK_BYTES["cuda"])
    return max(64, budget // (d_sae * bytes_each))
