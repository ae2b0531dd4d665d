"""Sparse sums and products by the Triton kernels of ``gpu.rows``.

All return None where they do not run (see ``gpu.device.ready``) or do not take the dtypes: indices
int64 or int32, weights and rows float32 or bfloat16.  Results come back in the dtype of the rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from monosemy.native.gpu.device import ready

_TAKEN = (torch.float32, torch.bfloat16)


def taken(*tensors: Tensor) -> bool:
    """Whether the kernels run on the device of these rows and weights and take their dtypes."""
    device = tensors[0].device
    fits = all(tensor.dtype in _TAKEN and tensor.device == device for tensor in tensors)
    return fits and ready(device)


def weighted_sums(indices_NK: Tensor, weights_NK: Tensor, rows_FD: Tensor) -> Tensor | None:
    """``sum_k weights[n, k] * rows[indices[n, k]]``, ``[n, d]``."""
    if not taken(rows_FD, weights_NK):
        return None
    from monosemy.native.gpu import rows as kernels

    parts = (indices_NK.contiguous(), weights_NK.detach().contiguous())
    return kernels.weighted_sums(*parts, rows_FD.detach().contiguous()).to(rows_FD.dtype)


def products(indices_NK: Tensor, x_ND: Tensor, rows_FD: Tensor) -> Tensor | None:
    """``out[n, k] = x[n] . rows[indices[n, k]]``."""
    if not taken(rows_FD, x_ND):
        return None
    from monosemy.native.gpu import rows as kernels

    parts = (x_ND.detach().contiguous(), rows_FD.detach().contiguous())
    return kernels.products(indices_NK.contiguous(), *parts).to(rows_FD.dtype)


def bag_sums(
    bags_E: Tensor, members_E: Tensor, weights_E: Tensor, rows_ND: Tensor, n_bags: int
) -> tuple[Tensor, Tensor] | None:
    """``out[b] = sum over entries of bag b of weight * rows[member]``, ``[n_bags, d]``, and the
    sums of the weights ``[n_bags]``; ``bags_E`` rises."""
    if not taken(rows_ND, weights_E):
        return None
    from monosemy.native.gpu import rows as kernels

    parts = (bags_E.contiguous(), members_E.contiguous(), weights_E.detach().contiguous())
    sums, totals = kernels.bag_sums(*parts, rows_ND.detach().contiguous(), n_bags)
    return sums.to(rows_ND.dtype), totals.to(weights_E.dtype)


def latent_sums(
    latents_E: Tensor, tokens_E: Tensor | int, weights_E: Tensor, x_ND: Tensor, n_rows: int
) -> tuple[Tensor, Tensor] | None:
    """The same by latent, of entries in any order: the weight gradients, rows and biases.

    ``tokens_E`` may be how many entries each token has, one token's after another's.
    """
    if not taken(x_ND, weights_E):
        return None
    # Half the bits to sort by; equal latents keep the order of their tokens.
    latents, order = latents_E.to(torch.int32).sort(stable=True)
    tokens = order // tokens_E if isinstance(tokens_E, int) else tokens_E[order]
    return bag_sums(latents, tokens, weights_E[order], x_ND, n_rows)


def bag_products(bags_E: Tensor, members_E: Tensor, x_BD: Tensor, rows_FD: Tensor) -> Tensor | None:
    """``out[e] = x[bag of e] . rows[member of e]``, ``[entries]``."""
    if not taken(rows_FD, x_BD):
        return None
    from monosemy.native.gpu import rows as kernels

    parts = (x_BD.detach().contiguous(), rows_FD.detach().contiguous())
    return kernels.bag_products(bags_E.contiguous(), members_E.contiguous(), *parts).to(
        rows_FD.dtype
    )
