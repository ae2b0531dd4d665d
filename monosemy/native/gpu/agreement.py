"""A small case of every kernel against tensor operations: what a device must pass once."""

from __future__ import annotations

import torch
from torch import Tensor

from monosemy.native.gpu import largest, rows

_TOKENS, _WIDTH, _ROWS, _D, _K = 20, 1000, 50, 300, 20


def disagreement(device: torch.device) -> str:
    """What the kernels compute differently on this device; empty where nothing.  Waits for it.

    Raises whatever Triton raises where a kernel cannot be compiled or launched.
    """
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    indices = torch.randint(_ROWS, (_TOKENS, _K), generator=generator).to(device)
    indices[:, ::2] = 7  # repeated below, more entries of one latent than two chunks hold
    weights, x = numbers(_TOKENS, _K), numbers(_TOKENS, _D)
    wrong = []
    for dtype in (torch.float32, torch.bfloat16):
        pre, bias = numbers(_TOKENS, _WIDTH).to(dtype), numbers(_WIDTH)
        pre[:, ::3], pre[0], bias[::3], bias[5] = pre[:, :1], -1.0, 0.0, float("-inf")
        zeros = torch.zeros_like(pre)
        zeros[:, ::2] = -0.0  # the two zeros are equal
        if not (_top_k_agrees(pre, bias) and _top_k_agrees(zeros, torch.zeros_like(bias).neg())):
            wrong.append(f"top-k of {dtype}")
        dictionary = numbers(_ROWS, _D).to(dtype)
        if not _rows_agree(indices, weights, x, dictionary):
            wrong.append(f"products with rows of {dtype}")
        if not _bags_agree(indices.repeat(4, 1), weights.repeat(4, 1), x.repeat(4, 1).to(dtype)):
            wrong.append(f"sums of rows of {dtype}")
    return f"wrong results in {', '.join(wrong)}" if wrong else ""


def _top_k_agrees(pre: Tensor, bias: Tensor) -> bool:
    """Equal entries have to be taken from the left."""
    whole = pre.float() + bias
    wanted = whole.sort(dim=1, descending=True, stable=True).indices[:, :_K].sort(1).values
    same = True
    for size in (16, 64):
        values, indices = largest.largest(pre, bias, _K, size)
        same &= torch.equal(indices, wanted) and torch.equal(values, whole.gather(1, wanted))
    return same


def _rows_agree(indices: Tensor, weights: Tensor, x: Tensor, dictionary: Tensor) -> bool:
    picked = dictionary.double()[indices]
    sums = torch.einsum("nk,nkd->nd", weights.double(), picked)
    dots = torch.einsum("nd,nkd->nk", x.double(), picked)
    tokens = torch.arange(len(x), device=x.device).repeat_interleave(indices.shape[1])
    ragged = rows.bag_products(tokens, indices.flatten(), x, dictionary)
    return (
        _close(rows.weighted_sums(indices, weights, dictionary), sums)
        and _close(rows.products(indices, x, dictionary), dots)
        and _close(ragged.view_as(dots), dots)
    )


def _bags_agree(indices: Tensor, weights: Tensor, x: Tensor) -> bool:
    bags, order = indices.flatten().to(torch.int32).sort(stable=True)
    tokens, sorted_weights = order // indices.shape[1], weights.flatten()[order]
    sums, totals = rows.bag_sums(bags, tokens, sorted_weights, x, _ROWS)
    dense = torch.zeros(_ROWS, len(x), dtype=torch.float64, device=x.device)
    dense.index_put_((bags.long(), tokens), sorted_weights.double(), accumulate=True)
    return _close(sums, dense @ x.double()) and _close(totals, dense.sum(1))


def _close(actual: Tensor, wanted: Tensor) -> bool:
    return torch.allclose(actual.double(), wanted, rtol=1e-4, atol=1e-4)
