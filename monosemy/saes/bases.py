"""Bases that need no training, as SAEs: neurons, principal components, random directions.

A basis is a TopK or JumpReLU SAE whose weights are given, so that whatever takes an SAE takes it.
Codes are never negative, while neurons and components go both ways: each is two latents, one for
either side (``i`` above, ``i + n`` below).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.saes import registry
from monosemy.saes.base import SAE
from monosemy.saes.jumprelu import JumpReLUSAE
from monosemy.specs import JumpReLUSpec, TopKSpec
from monosemy.specs.bases import Selection

_LEAST_WEIGHT = 1e-6
"""Of a direction, as a share of the mean one: what writes nothing is kept last, not never."""
_L0_TOLERANCE = 0.05
"""Share of the wanted L0 that a basis may miss: ties, and tokens with few latents on their side."""
_NOTHING = torch.finfo(torch.float32).tiny


def neurons(x_ND: Tensor, weight_D: Tensor, selection: Selection, l0: float) -> SAE:
    """The coordinates of ``x_ND``, each in both directions: ``2 d`` latents, nothing centred.

    ``weight_D``: what a coordinate's activation is multiplied by before it is compared with others,
    such as the length of what a neuron writes.  Codes are the activations as they are, but with
    ``top_k``, where they are in units of what is written and decoder rows are as much shorter.
    """
    rows_FD = both_ways(torch.eye(x_ND.shape[1]))
    return _with_rows(rows_FD, torch.zeros(x_ND.shape[1]), x_ND, selection, l0, weight_D.repeat(2))


def principal_components(x_ND: Tensor, directions: int, selection: Selection, l0: float) -> SAE:
    """The first ``directions`` of ``x_ND``, each in both directions, from its mean.

    ``DataError`` for more than there are dimensions, or than tokens less one.
    """
    n, width = x_ND.shape
    if directions > min(width, n - 1):
        raise DataError(
            f"{n} tokens of {width} dimensions have {max(0, min(width, n - 1))} principal "
            f"components, not {directions}.",
            "Ask for fewer directions or more tokens.",
        )
    mean_D = x_ND.double().mean(0)
    return _with_rows(both_ways(components(x_ND, directions)), mean_D.float(), x_ND, selection, l0)


def components(x_ND: Tensor, directions: int) -> Tensor:
    """Principal components ``[directions, d]``, float32, the largest variance first; of each the
    largest entry is positive."""
    centred_ND = x_ND.double() - x_ND.double().mean(0)
    _, vectors_DD = torch.linalg.eigh(centred_ND.T @ centred_ND)
    rows_CD = vectors_DD.flip(1).T[:directions]
    largest_C = rows_CD.gather(1, rows_CD.abs().argmax(1, keepdim=True))
    return (rows_CD * largest_C.sign()).float()


def random_directions(
    x_ND: Tensor, directions: int, seed: int, selection: Selection, l0: float
) -> SAE:
    """Unit vectors at random, one latent each, from the mean of ``x_ND``."""
    generator = torch.Generator().manual_seed(seed)
    rows_FD = torch.randn(directions, x_ND.shape[1], generator=generator)
    rows_FD = rows_FD / rows_FD.norm(dim=1, keepdim=True)
    return _with_rows(rows_FD, x_ND.double().mean(0).float(), x_ND, selection, l0)


def both_ways(rows_FD: Tensor) -> Tensor:
    """The rows, and after them their opposites."""
    return torch.cat([rows_FD, -rows_FD])


def mean_l0(sae: SAE, x_ND: Tensor, batch: int = 2048) -> float:
    """Mean number of active latents per token."""
    fired = sum(float(sae.encode(part).l0().sum()) for part in x_ND.split(batch))
    return fired / len(x_ND)


@torch.no_grad()
def _with_rows(
    rows_FD: Tensor,
    centre_D: Tensor,
    x_ND: Tensor,
    selection: Selection,
    l0: float,
    weight_F: Tensor | None = None,
) -> SAE:
    """An SAE that encodes and decodes with unit rows, as sparse on ``x_ND`` as is wanted.

    ``DataError`` where its latents cannot be so many at once.
    """
    n_latents, width = rows_FD.shape
    weight_F = torch.ones(n_latents) if weight_F is None else weight_F.float()
    weight_F = weight_F.clamp_min(max(_LEAST_WEIGHT * float(weight_F.mean()), _NOTHING))
    if selection == "top_k":
        k = min(n_latents, max(1, round(l0)))
        sae: SAE = registry.create(TopKSpec(d_sae=n_latents, k=k), width)
        length_F = weight_F
    else:
        target = min(l0, n_latents)
        sae = registry.create(JumpReLUSpec(d_sae=n_latents, target_l0=target), width)
        length_F = torch.ones(n_latents)
    sae.W_enc.copy_((rows_FD * length_F[:, None]).T)
    sae.W_dec.copy_(rows_FD / length_F[:, None])
    sae.b_enc.zero_()
    sae.b_dec.copy_(centre_D)
    if isinstance(sae, JumpReLUSAE):
        if selection == "all":
            sae.log_threshold.fill_(math.log(_NOTHING))
        else:
            # One value for all, of what is compared: a threshold is that over the weight.
            sae.log_threshold.copy_(-weight_F.log())
            sae.calibrate(x_ND)
    sae.requires_grad_(False)
    if selection != "all":
        _check_l0(sae, x_ND, max(1, round(l0)) if selection == "top_k" else l0)
    return sae


def _check_l0(sae: SAE, x_ND: Tensor, wanted: float) -> None:
    reached = mean_l0(sae, x_ND)
    if abs(reached - wanted) > _L0_TOLERANCE * wanted:
        raise DataError(
            f"{reached:,.1f} latents of this basis are active per token, not the l0 of {wanted:g}"
            " that is wanted.",
            "A token has at most those on whose side it lies: ask for a smaller l0 or for more "
            "directions.",
        )
