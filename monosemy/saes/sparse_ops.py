"""Sparse products with exact gradients: nothing here builds ``[n, d_sae]`` or ``[n, k, d]``.

On two CPU cores at n=2048, d=576, F=4096, k=32 the sparse decode takes 1.2 ms where the dense one
takes 26 ms in bfloat16, and a sparse weight gradient 6 ms where the dense one takes 42 ms.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


def weighted_rows(indices_NK: Tensor, weights_NK: Tensor, rows_FD: Tensor) -> Tensor:
    """``sum_k weights[n, k] * rows[indices[n, k]]``, shape ``[n, d]``; differentiable."""
    result: Tensor = _WeightedRows.apply(indices_NK, weights_NK, rows_FD)
    return result


def scatter_rows(indices_NK: Tensor, weights_NK: Tensor, x_ND: Tensor, n_rows: int) -> Tensor:
    """The transpose: ``out[f] = sum over (n, k) with indices[n, k] == f of weights[n, k] * x[n]``.

    Returns ``[n_rows, d]``.  It is one product with a compressed sparse matrix, whose entries are
    sorted by latent: no atomic additions, so equal inputs give equal bits.
    """
    n, k = indices_NK.shape
    flat = indices_NK.reshape(-1)
    order = flat.argsort(stable=True)
    starts = torch.zeros(n_rows + 1, dtype=torch.int64, device=flat.device)
    starts[1:] = torch.bincount(flat, minlength=n_rows).cumsum(0)
    matrix = torch.sparse_csr_tensor(
        starts,
        order // k,
        weights_NK.reshape(-1)[order],
        size=(n_rows, n),
        check_invariants=False,
    )
    product: Tensor = matrix @ x_ND
    return product


def selected_values(
    x_ND: Tensor, W_enc_DF: Tensor, b_enc_F: Tensor, indices_NK: Tensor, values_NK: Tensor
) -> Tensor:
    """``values_NK`` with the gradient of ``relu(x @ W_enc + b_enc)`` at ``indices_NK``.

    The forward product is done by the caller (once, dense, without a graph); only the selected
    entries carry gradient, and only where they are positive.
    """
    result: Tensor = _SelectedValues.apply(x_ND, W_enc_DF, b_enc_F, indices_NK, values_NK)
    return result


class _WeightedRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, indices: Tensor, weights: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(indices, weights, rows)
        return F.embedding_bag(indices, rows, per_sample_weights=weights, mode="sum")

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        (grad,) = grads
        indices, weights, rows = ctx.saved_tensors
        grad = grad.contiguous()
        d_weights = d_rows = None
        if ctx.needs_input_grad[1]:
            d_weights = _row_products(indices, grad, rows)
        if ctx.needs_input_grad[2]:
            d_rows = scatter_rows(indices, weights, grad, rows.shape[0])
        return None, d_weights, d_rows


def _row_products(indices_NK: Tensor, grad_ND: Tensor, rows_FD: Tensor) -> Tensor:
    """``out[n, k] = grad[n] . rows[indices[n, k]]``, through the bag's own backward kernel."""
    with torch.enable_grad():
        weights = torch.ones(indices_NK.shape, dtype=rows_FD.dtype, device=rows_FD.device)
        weights.requires_grad_()
        bag = F.embedding_bag(indices_NK, rows_FD.detach(), per_sample_weights=weights, mode="sum")
        (products,) = torch.autograd.grad(bag, weights, grad_ND)
    return products


class _SelectedValues(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, W_enc: Tensor, b_enc: Tensor, indices: Tensor, values: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, W_enc, b_enc, indices, values)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, W_enc, b_enc, indices, values = ctx.saved_tensors
        grad = grads[0] * (values > 0)
        d_x = d_W = d_b = None
        if ctx.needs_input_grad[0]:
            d_x = F.embedding_bag(
                indices, W_enc.T.contiguous(), per_sample_weights=grad, mode="sum"
            )
        if ctx.needs_input_grad[1]:
            # W_enc is laid out latent by latent (see SAE): its gradient comes as rows, too.
            d_W = scatter_rows(indices, grad, x, W_enc.shape[1]).T
        if ctx.needs_input_grad[2]:
            d_b = torch.zeros_like(b_enc).index_add_(0, indices.reshape(-1), grad.reshape(-1))
        return d_x, d_W, d_b, None, None
