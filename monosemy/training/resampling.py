"""Dead latents start anew at tokens that are reconstructed badly (Bricken et al. 2023, "Towards
Monosemanticity", appendix on neuron resampling; the recipes that lead SynthSAEBench use it)."""

from __future__ import annotations

import torch
from torch import Tensor

from monosemy.saes.base import SAE
from monosemy.specs import TrainingSpec


def is_due(spec: TrainingSpec, step: int, total_steps: int) -> bool:
    """Whether dead latents start anew after this step, counted from 0."""
    every = spec.resample_every
    return (
        every is not None
        and (step + 1) % every == 0
        and step + 1 <= spec.resample_until * total_steps
    )


@torch.no_grad()
def resample(
    sae: SAE,
    optimiser: torch.optim.Optimizer,
    dead: Tensor,
    x_ND: Tensor,
    residual_ND: Tensor,
    seed: int,
) -> Tensor:
    """Restarts latents ``dead`` (int64) along residuals ``[n, d_out]`` of tokens ``x_ND``.

    Tokens are drawn without replacement, by their squared error; where more latents are dead than
    there are tokens, the first ones are restarted.  A latent writes the residual's direction, and
    reads it too unless the SAE transcodes, where it reads the token's.  Encoder columns get the
    mean length of the living ones, what a latent has one number of the living ones' mean.  The
    optimiser forgets those weights.  Gives the latents that were restarted.
    """
    living = torch.ones(sae.d_sae, dtype=torch.bool, device=dead.device)
    living[dead] = False
    error_N = residual_ND.pow(2).sum(1)
    latents = dead[: int((error_N > 0).sum())]
    if not len(latents) or not living.any():
        return latents[:0]
    drawn = torch.multinomial(
        error_N.cpu().double(), len(latents), generator=torch.Generator().manual_seed(seed)
    ).to(dead.device)
    written_KD = torch.nn.functional.normalize(residual_ND[drawn], dim=1)
    read_KD = written_KD
    if sae.transcodes:
        read_KD = torch.nn.functional.normalize(sae.centre(x_ND)[drawn], dim=1)
    for parameter, axis in sae.latent_parameters():
        if parameter is sae.W_dec:
            new = written_KD
        elif parameter.dim() == 2:
            length = parameter.index_select(axis, living.nonzero()[:, 0]).norm(dim=1 - axis).mean()
            new = (read_KD * length).T
        else:
            new = parameter[living].mean().expand(len(latents))
        parameter.index_copy_(axis, latents, new.to(parameter))
        for kept in optimiser.state.get(parameter, {}).values():
            if isinstance(kept, Tensor) and kept.shape == parameter.shape:
                kept.index_fill_(axis, latents, 0)
    return latents
