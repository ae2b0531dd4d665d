"""Codes without padding: one entry per active latent, and what is computed over them.

Where tokens share a budget, some have ten times as many active latents as others, and a rectangle
would be nearly all padding.  As in ``sparse_ops``, nothing here builds ``[n, d_sae]`` or
``[entries, d]``, and sums are done in an order that depends neither on threads nor on atomics.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from monosemy.native import rows as native
from monosemy.saes.codes import Codes


class Entries(NamedTuple):
    """Active latents of a batch of tokens, E in number."""

    rows: Tensor
    """int64 ``[E]``: which token, rising."""
    latents: Tensor
    """int64 ``[E]``."""
    values: Tensor
    """``[E]``: activations, positive."""


def entries_of(codes: Codes) -> Entries:
    """The active entries of padded codes; their values keep their gradient."""
    rows, columns = (codes.values > 0).nonzero(as_tuple=True)
    return Entries(rows, codes.indices[rows, columns], codes.values[rows, columns])


def entry_sums(entries: Entries, rows_FD: Tensor, n: int) -> Tensor:
    """``out[i] = sum over entries of token i of value * rows[latent]``, ``[n, d]``; differentiable
    in values and rows.  ``entries.rows`` may number other bags than tokens, if they rise."""
    result: Tensor = _EntrySums.apply(*entries, rows_FD, n)
    return result


def entry_values(entries: Entries, centred_ND: Tensor, W_enc: Tensor, b_enc: Tensor) -> Entries:
    """The same, with the gradient of ``relu(centred @ W_enc + b_enc)`` on the values.

    Where ``centred`` is ``[n, L, d]`` (see ``selection``), a token's latents must rise.
    """
    bags = entries
    if centred_ND.dim() == 3:
        groups = centred_ND.shape[1]
        size = W_enc.shape[1] // groups
        own = torch.div(entries.latents, size, rounding_mode="floor")
        bags = entries._replace(rows=entries.rows * groups + own)
        centred_ND = centred_ND.flatten(0, 1)
    values: Tensor = _EntryValues.apply(centred_ND, W_enc, b_enc, *bags)
    return entries._replace(values=values)


class _EntrySums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, bags: Tensor, latents: Tensor, values: Tensor, rows_FD: Tensor, n: int
    ) -> Tensor:
        starts = _starts(bags, n)
        ctx.save_for_backward(bags, latents, values, rows_FD, starts)
        sums = native.bag_sums(bags, latents, values, rows_FD, n)
        return _sums(latents, values, rows_FD, starts) if sums is None else sums[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0].contiguous()
        bags, latents, values, rows_FD, starts = ctx.saved_tensors
        d_values = d_rows = None
        if ctx.needs_input_grad[2]:
            products = native.bag_products(bags, latents, grad, rows_FD)
            d_values = _products(latents, starts, grad, rows_FD) if products is None else products
        if ctx.needs_input_grad[3]:
            d_rows = _scattered(bags, latents, values, grad, len(rows_FD))
        return None, None, d_values, d_rows, None


class _EntryValues(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        centred: Tensor,
        W_enc: Tensor,
        b_enc: Tensor,
        rows: Tensor,
        latents: Tensor,
        values: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(centred, W_enc, b_enc, rows, latents)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0].contiguous()
        centred, W_enc, b_enc, rows, latents = ctx.saved_tensors
        d_x = d_W = d_b = None
        # W_enc is laid out latent by latent (see SAE), so its transpose is contiguous rows.
        if ctx.needs_input_grad[0]:
            weights_FD, n = W_enc.T.contiguous(), len(centred)
            sums = native.bag_sums(rows, latents, grad, weights_FD, n)
            d_x = sums[0] if sums else _sums(latents, grad, weights_FD, _starts(rows, n))
        if ctx.needs_input_grad[1]:
            both = native.latent_sums(latents, rows, grad, centred, W_enc.shape[1])
            if both is not None:  # the bias for nothing, and without atomics
                d_b = both[1] if ctx.needs_input_grad[2] else None
                return d_x, both[0].T, d_b, None, None, None
            d_W = _scattered(rows, latents, grad, centred, W_enc.shape[1]).T
        if ctx.needs_input_grad[2]:
            d_b = torch.zeros_like(b_enc).index_add_(0, latents, grad)
        return d_x, d_W, d_b, None, None, None


def _starts(bags: Tensor, n: int) -> Tensor:
    """Where each of ``n`` bags begins.  Not by counting: a count waits for the device."""
    return torch.searchsorted(bags, torch.arange(n, device=bags.device))


def _sums(latents: Tensor, values: Tensor, rows_FD: Tensor, starts: Tensor) -> Tensor:
    return F.embedding_bag(latents, rows_FD, starts, mode="sum", per_sample_weights=values)


def _scattered(bags: Tensor, latents: Tensor, values: Tensor, x_BD: Tensor, n_rows: int) -> Tensor:
    """``out[f] = sum over entries of latent f of value * x[bag]``, ``[n_rows, d]``."""
    sums = native.latent_sums(latents, bags, values, x_BD, n_rows)
    if sums is not None:
        return sums[0]
    order = latents.argsort(stable=True)
    starts = _starts(latents[order], n_rows)
    return _sums(bags[order], values[order], x_BD, starts)


def _products(latents: Tensor, starts: Tensor, x_BD: Tensor, rows_FD: Tensor) -> Tensor:
    """``out[e] = x[bag of e] . rows[latent of e]``."""
    if x_BD.device.type == "cpu" and len(latents):
        # A sampled product: half the time of the bag's own backward.
        end = torch.tensor([len(latents)])
        pattern = torch.sparse_csr_tensor(
            torch.cat([starts, end]),
            latents,
            torch.zeros(len(latents), dtype=x_BD.dtype),
            size=(len(x_BD), len(rows_FD)),
            check_invariants=False,
        )
        sampled = torch.sparse.sampled_addmm(pattern, x_BD, rows_FD.detach().T, beta=0.0)
        return sampled.values()
    with torch.enable_grad():
        weights = torch.ones_like(latents, dtype=rows_FD.dtype).requires_grad_()
        (products,) = torch.autograd.grad(
            _sums(latents, weights, rows_FD.detach(), starts), weights, x_BD
        )
    return products
