"""Leave-one-out pruning at inference: latents that do not help the reconstruction are dropped."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.saes.base import SAE
from monosemy.saes.codes import Codes
from monosemy.saes.sparse_ops import row_products


@torch.no_grad()
def pruned(sae: SAE, x_ND: Tensor, codes: Codes, least: float) -> Codes:
    """Keeps latent i of a token where ``(x - x_hat) . d_i + f_i |d_i|^2 > least``.

    That is what the residual without latent i has along ``d_i``: how strongly the rest misses it.
    ``least`` is in the units of the activations.
    """
    residual_ND = x_ND - sae.decode(codes, x_ND)
    along = row_products(codes.indices, residual_ND, sae.W_dec)
    squared = sae.W_dec.pow(2).sum(1)[codes.indices]
    helps = along + codes.values * squared > least
    return Codes(codes.indices, torch.where(helps, codes.values, 0.0))


def with_pruning(sae: SAE, least: float) -> SAE:
    """``sae`` with its codes pruned; parameters are shared.  For SAEs that reconstruct what they
    read: a transcoder has no target at inference.  ``DataError`` for one that writes by layers."""

    def encode(x_ND: Tensor, budget: int | float | None = None) -> Codes:
        return pruned(sae, x_ND, sae.encode(x_ND, budget), least)

    if not hasattr(sae, "W_dec"):
        raise DataError(
            f"{type(sae).__name__} has no whole decoder to prune by.",
            "Leave out evaluation.prune.",
        )
    view = copy.copy(sae)
    view.__dict__["encode"] = encode  # of this instance alone
    return view
