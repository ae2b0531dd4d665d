"""Matching pursuit over a dictionary, and its exact gradient.

    r_0 = x
    for t = 1 .. steps:   i_t = argmax_i r . d_i;   v_t = relu(r . d_{i_t});   r = r - v_t d_{i_t}

(Mallat and Zhang 1993, with non-negative steps as in Costa et al. 2025, arXiv 2506.03093).  The
choice ``i_t`` has no gradient, everything else has.  Nothing here stores ``[n, d_sae]``: the
backward pass goes through the picks in reverse and rebuilds ``r_{t-1} = r_t + v_t d_{i_t}``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from monosemy.native import pursuit as native
from monosemy.saes.selection import top_k

_BLOCK_BYTES = {"cpu": 8 << 20, "cuda": 1 << 30}
"""Correlations that exist at once in the loop of tensor operations."""


class Pursuit(NamedTuple):
    """The picks of n tokens in the order in which they were made."""

    indices: Tensor
    """int64 ``[n, steps]``; a latent may be picked again, and 0 where nothing was."""
    values: Tensor
    """``[n, steps]``: what each pick adds to its latent; 0 once a token is done."""
    residual: Tensor
    """``[n, d]``: what is left, ``x - sum_t v_t d_{i_t}``."""


def pursue(x_ND: Tensor, rows_FD: Tensor, steps: int, stop_N: Tensor | None = None) -> Pursuit:
    """``steps`` picks for each row of ``x_ND`` among ``rows_FD``; values and residual have a graph.

    ``stop_N``: a token makes no further pick once its residual's length is at most this.  The first
    t picks do not depend on ``steps``.  A step is the best one for rows of unit length; for others
    the values are as written above.  Rows and tokens that hold NaN give garbage, not errors.
    """
    if steps < 1:
        raise ValueError(f"a pursuit of {steps} steps is none")
    indices, values, residual = _Pursue.apply(x_ND, rows_FD, steps, stop_N)
    return Pursuit(indices, values, residual)


def merge_repeats(indices_NK: Tensor, values_NK: Tensor) -> Tensor:
    """``values_NK`` with all picks of one latent summed at the first of them, 0 at the others."""
    ordered, order = indices_NK.sort(dim=1, stable=True)
    fresh = torch.ones_like(ordered, dtype=torch.bool)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    position = torch.arange(ordered.shape[1], device=ordered.device).expand_as(ordered)
    first = order.gather(1, (position * fresh).cummax(1).values)
    return torch.zeros_like(values_NK).scatter_add(1, first, values_NK.gather(1, order))


class _Pursue(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rows: Tensor, steps: int, stop: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        picks = native.pursue(x, rows, steps, stop)
        if picks is None:
            picks = by_products(x, rows, steps, stop)
        indices, values, residual = picks
        ctx.save_for_backward(indices, values, residual, rows)
        ctx.mark_non_differentiable(indices)
        ctx.set_materialize_grads(False)
        return indices, values, residual

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        indices, values, residual, rows = ctx.saved_tensors
        _, d_values, d_residual = grads
        d_residual = torch.zeros_like(residual) if d_residual is None else d_residual
        both = native.gradients(indices, values, residual, rows, d_values, d_residual)
        if both is None:
            both = gradients(indices, values, residual, rows, d_values, d_residual)
        return both[0], both[1], None, None


def by_products(
    x_ND: Tensor, rows_FD: Tensor, steps: int, stop_N: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The loop as it is written: a dense product per pick, for those tokens that are not done."""
    n = x_ND.shape[0]
    indices = torch.zeros(n, steps, dtype=torch.int64, device=x_ND.device)
    values = torch.zeros(n, steps, dtype=x_ND.dtype, device=x_ND.device)
    residual = x_ND.clone(memory_format=torch.contiguous_format)
    budget = _BLOCK_BYTES.get(x_ND.device.type, _BLOCK_BYTES["cuda"])
    block = max(64, budget // (rows_FD.shape[0] * x_ND.element_size()))
    for start in range(0, n, block):
        rows = slice(start, start + block)
        limit = None if stop_N is None else stop_N[rows]
        _pursue_block(indices[rows], values[rows], residual[rows], rows_FD, limit)
    return indices, values, residual


def _pursue_block(
    indices: Tensor, values: Tensor, residual: Tensor, rows: Tensor, stop: Tensor | None
) -> None:
    """Fills in the picks of one block of tokens and takes them off ``residual``, in place."""
    active: Tensor | None = None
    r = residual
    for t in range(indices.shape[1]):
        picked = top_k(r @ rows.T, 1)[1].squeeze(1)
        row = rows.index_select(0, picked)
        value = (r * row).sum(1).relu_()
        r = torch.addcmul(r, value[:, None], row, value=-1)
        picked = picked.masked_fill(value == 0, 0)
        if active is None:
            indices[:, t], values[:, t] = picked, value
        else:
            indices[active, t], values[active, t] = picked, value
        if stop is None:
            continue
        going = (r.norm(dim=1) > stop if active is None else r.norm(dim=1) > stop[active]).nonzero()
        going = going.squeeze(1)
        if active is None:
            residual.copy_(r)
            active = going
        else:
            residual[active] = r
            active = active[going]
        if not going.numel():
            return
        r = r[going]
    if active is None:
        residual.copy_(r)
    else:
        residual[active] = r


def gradients(
    indices_NK: Tensor,
    values_NK: Tensor,
    residual_ND: Tensor,
    rows_FD: Tensor,
    d_values_NK: Tensor | None,
    d_residual_ND: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients with respect to ``x [n, d]`` and ``rows [F, d]``, by the recursion in reverse.

    With ``g = dL/dr_t``: ``gv = dL/dv_t - g . d`` where ``v_t > 0``; the row's gradient gains
    ``gv r_{t-1} - v_t g``; then ``g`` gains ``gv d``.
    """
    d_rows = torch.zeros_like(rows_FD)
    g, r = d_residual_ND.clone(), residual_ND.clone()
    for t in reversed(range(indices_NK.shape[1])):
        picked, value = indices_NK[:, t], values_NK[:, t, None]
        row = rows_FD.index_select(0, picked)
        gv = -(g * row).sum(1, keepdim=True)
        if d_values_NK is not None:
            gv = gv + d_values_NK[:, t, None]
        gv = gv * (value > 0)
        r = torch.addcmul(r, value, row)
        d_rows.index_add_(0, picked, gv * r - value * g)
        g = torch.addcmul(g, gv, row)
    return g, d_rows
