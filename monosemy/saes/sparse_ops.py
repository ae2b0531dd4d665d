"""Sparse products with exact gradients: nothing here builds ``[n, d_sae]`` or ``[n, k, d]``.

All are sums of a few rows each, done by Triton kernels where those run and by embedding bags
elsewhere.  The order of addition depends neither on threads nor on atomics: equal inputs give equal
bits.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from monosemy.native import rows as native

with warnings.catch_warnings():
    # PyTorch says once per process that these are in beta: let it say so to nobody.
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor([0, 0], [], [], size=(1, 1), check_invariants=False)


def weighted_rows(indices_NK: Tensor, weights_NK: Tensor, rows_FD: Tensor) -> Tensor:
    """``sum_k weights[n, k] * rows[indices[n, k]]``, shape ``[n, d]``; differentiable."""
    result: Tensor = _WeightedRows.apply(indices_NK, weights_NK, rows_FD)
    return result


def scatter_rows(indices_NK: Tensor, weights_NK: Tensor, x_ND: Tensor, n_rows: int) -> Tensor:
    """The transpose: ``out[f] = sum over (n, k) with indices[n, k] == f of weights[n, k] * x[n]``.

    Returns ``[n_rows, d]``; entries are sorted by latent, and each latent is one bag.
    """
    flat = indices_NK.reshape(-1)
    sums = native.latent_sums(flat, indices_NK.shape[1], weights_NK.reshape(-1), x_ND, n_rows)
    if sums is not None:
        return sums[0]
    order = flat.argsort(stable=True)
    # Not by counting: a count waits for the device.
    starts = torch.searchsorted(flat[order], torch.arange(n_rows, device=flat.device))
    tokens = order // indices_NK.shape[1]
    weights = weights_NK.reshape(-1)[order]
    return F.embedding_bag(tokens, x_ND, starts, mode="sum", per_sample_weights=weights)


def selected_values(
    centred_ND: Tensor, W_enc: Tensor, b_enc: Tensor, indices_NK: Tensor, values_NK: Tensor
) -> Tensor:
    """``values_NK`` with the gradient of ``relu(centred @ W_enc + b_enc)`` at ``indices_NK``.

    The product itself was done by the caller, dense, once and without a graph.  Only positive
    entries carry gradient.
    """
    result: Tensor = _SelectedValues.apply(centred_ND, W_enc, b_enc, indices_NK, values_NK)
    return result


class _WeightedRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, indices: Tensor, weights: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(indices, weights, rows)
        return _sums(indices, weights, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        grad = grads[0].contiguous()
        indices, weights, rows = ctx.saved_tensors
        d_weights = d_rows = None
        if ctx.needs_input_grad[1]:
            d_weights = row_products(indices, grad, rows)
        if ctx.needs_input_grad[2]:
            d_rows = scatter_rows(indices, weights, grad, rows.shape[0])
        return None, d_weights, d_rows


class _SelectedValues(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, centred: Tensor, W_enc: Tensor, b_enc: Tensor, indices: Tensor, values: Tensor
    ) -> Tensor:
        ctx.save_for_backward(centred, W_enc, b_enc, indices, values)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        centred, W_enc, b_enc, indices, values = ctx.saved_tensors
        grad = grads[0] * (values > 0)
        d_x = d_W = d_b = None
        # W_enc is laid out latent by latent (see SAE), so its transpose is contiguous rows.
        if ctx.needs_input_grad[0]:
            d_x = _sums(indices, grad, W_enc.T.contiguous())
        if ctx.needs_input_grad[1]:
            flat = (indices.reshape(-1), indices.shape[1], grad.reshape(-1))
            both = native.latent_sums(*flat, centred, W_enc.shape[1])
            if both is not None:  # the bias for nothing, and without atomics
                return d_x, both[0].T, both[1] if ctx.needs_input_grad[2] else None, None, None
            d_W = scatter_rows(indices, grad, centred, W_enc.shape[1]).T
        if ctx.needs_input_grad[2]:
            d_b = torch.zeros_like(b_enc).index_add_(0, indices.reshape(-1), grad.reshape(-1))
        return d_x, d_W, d_b, None, None


def _sums(indices_NK: Tensor, weights_NK: Tensor, rows_FD: Tensor) -> Tensor:
    sums = native.weighted_sums(indices_NK, weights_NK, rows_FD)
    if sums is not None:
        return sums
    return F.embedding_bag(indices_NK, rows_FD, per_sample_weights=weights_NK, mode="sum")


def row_products(indices_NK: Tensor, x_ND: Tensor, rows_FD: Tensor) -> Tensor:
    """``out[n, k] = x[n] . rows[indices[n, k]]``, the gradient of a bag to its weights."""
    native_products = native.products(indices_NK, x_ND, rows_FD)
    if native_products is not None:
        return native_products
    n, k = indices_NK.shape
    if x_ND.device.type == "cpu" and k <= len(rows_FD):  # more cannot be a sparsity pattern
        # A sampled product: half the time of the bag's own backward.
        pattern = torch.sparse_csr_tensor(
            torch.arange(0, n * k + 1, k),
            indices_NK.reshape(-1),
            torch.zeros(n * k, dtype=x_ND.dtype),
            size=(n, rows_FD.shape[0]),
            check_invariants=False,
        )
        sampled = torch.sparse.sampled_addmm(pattern, x_ND, rows_FD.detach().T, beta=0.0)
        return sampled.values().view(n, k)
    with torch.enable_grad():
        weights = torch.ones(indices_NK.shape, dtype=rows_FD.dtype, device=rows_FD.device)
        weights.requires_grad_()
        bag = F.embedding_bag(indices_NK, rows_FD.detach(), per_sample_weights=weights, mode="sum")
        (products,) = torch.autograd.grad(bag, weights, x_ND)
    return products
