"""Dictionaries that are not told what an activation is about: SAEs, PCA, random ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.saes.base import SAE
from monosemy.saes.codes import Codes

_AT_ONCE = 512
"""Activations that are coded together."""
_RIDGE = 1e-6
"""Of the mean squared row, where random rows are all but parallel."""


@dataclass(frozen=True)
class Coder:
    """Rows, a bias, and which rows an activation is made of: ``bias + codes @ rows``."""

    rows_FD: Tensor
    """``[F, d]`` float32."""
    bias_D: Tensor
    apply: Callable[[Tensor], Codes]

    @torch.no_grad()
    def encode(self, acts_ND: Tensor) -> Codes:
        """Codes of float32 activations ``[n, d]``, on the CPU; values are positive, those of
        padding 0."""
        parts = [self.apply(part) for part in acts_ND.split(_AT_ONCE)]
        width = max((part.indices.shape[1] for part in parts), default=0)
        return Codes(
            torch.cat([_padded(part.indices, width) for part in parts]),
            torch.cat([_padded(part.values, width) for part in parts]),
        )

    def decode(self, codes: Codes) -> Tensor:
        """``[n, d]``"""
        made = [
            (values[..., None] * self.rows_FD[indices]).sum(1)
            for indices, values in zip(
                codes.indices.split(_AT_ONCE), codes.values.split(_AT_ONCE), strict=True
            )
        ]
        return self.bias_D + torch.cat(made)


def _padded(part_NK: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(part_NK, (0, width - part_NK.shape[1]))


def sae_coder(sae: SAE) -> Coder:
    """Of an SAE that reconstructs what it reads; ``DataError`` for another."""
    if sae.transcodes:
        raise DataError("An SAE that writes elsewhere than it reads has no codes of a site.")

    def apply(x_ND: Tensor) -> Codes:
        codes = sae.encode(x_ND.to(sae.device))
        values = codes.values.detach().float().cpu()
        return Codes(codes.indices.cpu(), values)

    return Coder(sae.W_dec.detach().float().cpu(), sae.b_dec.detach().float().cpu(), apply)


def pca_coder(acts_ND: Tensor, l0: int) -> Coder:
    """Principal components of ``acts_ND``, each twice (both signs); the ``l0`` largest coefficients
    of an activation are kept."""
    mean_D = acts_ND.double().mean(0)
    centred_ND = acts_ND.double() - mean_D
    _, axes_DD = torch.linalg.eigh(centred_ND.T @ centred_ND)
    rows_CD = axes_DD.T.flip(0)[: min(len(acts_ND) - 1, len(axes_DD))].float()
    bias_D = mean_D.float()

    def apply(x_ND: Tensor) -> Codes:
        return _largest((x_ND - bias_D) @ rows_CD.T, l0)

    return Coder(torch.cat([rows_CD, -rows_CD]), bias_D, apply)


def random_coder(mean_D: Tensor, count: int, l0: int, seed: int) -> Coder:
    """``count`` random unit rows around ``mean_D``: an activation takes the ``l0`` that it lies
    along most, with the coefficients of least squares.

    Both signs of a row count as features of their own, as those of PCA.
    """
    generator = torch.Generator().manual_seed(seed % 2**63)
    rows_CD = torch.randn(max(count // 2, 1), len(mean_D), generator=generator)
    rows_CD /= rows_CD.norm(dim=1, keepdim=True)
    bias_D = mean_D.float()
    kept = min(l0, len(rows_CD), len(mean_D))

    def apply(x_ND: Tensor) -> Codes:
        centred_ND = x_ND - bias_D
        chosen_NK = (centred_ND @ rows_CD.T).abs().topk(kept, dim=1).indices
        rows_NKD = rows_CD[chosen_NK]
        gram_NKK = rows_NKD @ rows_NKD.mT + _RIDGE * torch.eye(kept)
        found_NK = torch.linalg.solve(gram_NKK, rows_NKD @ centred_ND[..., None])[..., 0]
        return _signed(chosen_NK, found_NK, len(rows_CD))

    return Coder(torch.cat([rows_CD, -rows_CD]), bias_D, apply)


def _largest(coefficients_NC: Tensor, l0: int) -> Codes:
    kept = min(l0, coefficients_NC.shape[1])
    indices_NK = coefficients_NC.abs().topk(kept, dim=1).indices
    return _signed(indices_NK, coefficients_NC.gather(1, indices_NK), coefficients_NC.shape[1])


def _signed(indices_NK: Tensor, values_NK: Tensor, count: int) -> Codes:
    """Negative coefficients as positive ones of the opposite row, ``count`` further on."""
    return Codes(indices_NK + count * (values_NK < 0), values_NK.abs())
