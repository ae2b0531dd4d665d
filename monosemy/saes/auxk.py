"""AuxK: dead latents learn to reconstruct what the living ones miss (Gao et al. 2024, A.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from monosemy.saes.base import SAE
from monosemy.specs import AuxKSpec


class DeadLatents:
    """Counts, per latent, the tokens since it last fired."""

    def __init__(self, d_sae: int, after_tokens: int, device: torch.device | str = "cpu") -> None:
        self.after_tokens = after_tokens
        self.silent_for = torch.zeros(d_sae, dtype=torch.int64, device=device)

    @torch.no_grad()
    def update(self, fired_F: Tensor, tokens: int) -> None:
        """Takes in a batch's firing counts; without synchronising with the device."""
        self.silent_for += tokens
        self.silent_for.masked_fill_(fired_F > 0, 0)

    def mask(self) -> Tensor:
        """True where a latent counts as dead, bool ``[d_sae]``."""
        return self.silent_for >= self.after_tokens

    def indices(self) -> Tensor:
        """Which latents are dead, int64; waits for the device, so ask rarely."""
        return self.mask().nonzero().squeeze(1)


def auxk_terms(
    sae: SAE, spec: AuxKSpec, x_ND: Tensor, residual_ND: Tensor, dead: Tensor
) -> dict[str, Tensor]:
    """``{"auxk": weighted loss}`` where latents are dead and the weight is not 0, else nothing."""
    if not spec.aux_coefficient or not sae.group.dead_count(dead):
        return {}
    return {"auxk": spec.aux_coefficient * auxk_loss(sae, x_ND, residual_ND, dead, spec.aux_k)}


def auxk_loss(
    sae: SAE, x_ND: Tensor, residual_ND: Tensor, dead: Tensor, aux_k: int | None = None
) -> Tensor:
    """How badly the dead latents reconstruct the residual, as a share of its variance.

    ``dead``: int64 indices of dead latents, at least one.  ``residual_ND = x - reconstruction`` is
    detached.  Each token uses its ``min(aux_k, len(dead))`` strongest dead latents (``aux_k``
    defaults to half of ``d_in``).  The result does not change when the data is scaled; its gradient
    reaches encoder and decoder of the dead latents.
    """
    everywhere = sae.group.dead_count(dead)
    k = min(aux_k or max(1, sae.d_in // 2), everywhere)
    target = residual_ND.detach()
    half = sae.product_dtype is not None and sae.product_dtype != sae.b_enc.dtype
    # Most tokens use most dead latents, so here dense products win over sparse ones.
    with torch.autocast(x_ND.device.type, dtype=sae.product_dtype, enabled=half):
        pre = sae.dense_pre_activations(x_ND, sae.b_enc, dead).relu()
        if k < everywhere:
            best = pre.detach().topk(min(k, dead.numel()), dim=-1, sorted=False)
            chosen = sae.group.chosen_of_each(best.values, k)
            mask = torch.ones_like(best.values) if chosen is None else chosen.to(pre.dtype)
            pre = pre * torch.zeros_like(pre).scatter_(1, best.indices, mask)
        reconstruction = sae.group.combined(sae.dense_decoded(pre, dead))
    error = (reconstruction.to(target.dtype) - target).pow(2).sum()
    variance = sae.group.variance(target)
    # Nothing is left to explain where the variance is 0; a bare division would give NaN gradients.
    return torch.where(variance > 0, error / variance.where(variance > 0, 1.0), 0.0)
