"""Which of a crosscoder's latents only look exclusive to one place (Minder et al. 2025,
arXiv 2504.02922, section 3.2).

A penalty fakes exclusive latents in two ways: what a latent says is there at the other place too,
but weaker, and was shrunk away (then the error there still has it), or is there and written by
other latents (then the reconstruction has it).  So for each latent with direction ``d`` at the
place where it is strongest and activations ``f``, the multiple ``beta`` of ``f d`` that comes
nearest to a vector ``Y`` of each token is taken: ``beta(Y) = sum f (Y . d) / (sum f^2 |d|^2)``.

* ``nu_error``: for ``Y`` the error without the latent, ``x_m - (x_hat_m - f d_m)``, at place m over
  the same at its own place.  That is ``beta(x_m - x_hat_m) + d_m . d / |d|^2``, so one pass over
  the tokens suffices.
* ``nu_reconstruction``: for ``Y`` the reconstruction without its bias, likewise.

All in the units that training gave the places, so that a place of larger activations weighs as much
as another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.evals.reconstruction import ROWS_AT_ONCE
from monosemy.models.columns import WHOLE, Columns
from monosemy.saes.crosscoder import Crosscoder, classes
from monosemy.saes.sparse_ops import row_products
from monosemy.specs.latent_classes import EXCLUSIVE_BELOW, LatentClass, ScaledLatent
from monosemy.training.stream import RowSource

ERROR_BELOW, RECONSTRUCTION_BELOW = 0.1, 0.5
"""A latent is what it looks like where both ratios are below these at every other place."""

MOST_NAMED = 1000
"""Exclusive latents that an evaluation lists, those that fire most first."""


@dataclass(frozen=True)
class LatentScaling:
    """Of each latent at each place, float64 on the CPU; NaN where the latent never fires, or says
    nothing at its own place either."""

    own_F: Tensor
    """int64: where it is strongest."""
    relative_FM: Tensor
    """Its norms, as shares of its largest."""
    error_FM: Tensor
    """``nu_error``; 1 at its own place."""
    reconstruction_FM: Tensor
    """``nu_reconstruction``; 1 at its own place."""
    energy_F: Tensor
    """Sum of squared activations."""

    @property
    def exclusive(self) -> Tensor:
        """Which look exclusive to one place, by their norms, bool ``[d_sae]``; of those that
        fire."""
        second_F = self.relative_FM.sort(dim=1, descending=True).values[:, 1]
        return (second_F < EXCLUSIVE_BELOW) & (self.energy_F > 0)

    @property
    def genuine(self) -> Tensor:
        """Which of these are, bool ``[d_sae]``."""
        away = self._away
        error_F = self.error_FM.where(away, -torch.inf).amax(1)
        reconstruction_F = self.reconstruction_FM.where(away, -torch.inf).amax(1)
        # NaN is below nothing.
        small = (error_F < ERROR_BELOW) & (reconstruction_F < RECONSTRUCTION_BELOW)
        return self.exclusive & small

    def summary(self, places: list[str]) -> dict[str, Any]:
        """For JSON: per place how many latents look ``exclusive`` and how many are ``genuine``, and
        ``latents``, the exclusive ones with what speaks against them."""
        exclusive, genuine = self.exclusive, self.genuine
        which = exclusive.nonzero().squeeze(1)
        by_energy = which[self.energy_F[which].argsort(descending=True, stable=True)][:MOST_NAMED]
        counts = {
            name: {
                "exclusive": int((exclusive & (self.own_F == place)).sum()),
                "genuine": int((genuine & (self.own_F == place)).sum()),
            }
            for place, name in enumerate(places)
        }
        return {
            "places": counts,
            "latents": [self._of(int(latent), places) for latent in by_energy],
        }

    def latents(self, places: list[str]) -> Iterator[ScaledLatent]:
        """Every latent that fired, by its number."""
        kinds = classes(self.relative_FM)
        error_F, reconstruction_F = (
            values_FM.where(self._away, -torch.inf).amax(1).tolist()
            for values_FM in (self.error_FM, self.reconstruction_FM)
        )
        genuine = self.genuine.tolist()
        for latent in self.energy_F.nonzero().squeeze(1).tolist():
            kind = kinds[latent]
            yield ScaledLatent(
                latent,
                kind,
                places[int(self.own_F[latent])],
                genuine[latent] if kind == LatentClass.EXCLUSIVE else None,
                _finite(error_F[latent]),
                _finite(reconstruction_F[latent]),
            )

    @property
    def _away(self) -> Tensor:
        """Which places are not a latent's own, bool ``[d_sae, places]``."""
        away = torch.ones_like(self.error_FM, dtype=torch.bool)
        return away.scatter_(1, self.own_F[:, None], False)

    def _of(self, latent: int, places: list[str]) -> dict[str, Any]:
        own = int(self.own_F[latent])
        others = {name: place for place, name in enumerate(places) if place != own}
        return {
            "latent": latent,
            "place": places[own],
            "genuine": bool(self.genuine[latent]),
            "nu_error": _numbers(self.error_FM[latent], others),
            "nu_reconstruction": _numbers(self.reconstruction_FM[latent], others),
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _numbers(values_M: Tensor, places: dict[str, int]) -> dict[str, float | None]:
    return {
        name: float(values_M[place]) if values_M[place].isfinite() else None
        for name, place in places.items()
    }


class ScalingSums:
    """Sums over tokens, in float64, from which all follows: nothing is ``[latents, n, d]``."""

    def __init__(self, sae: Crosscoder) -> None:
        self.sae = sae
        scaled_FMd = (sae.W_dec.detach() * sae.written_scale).unflatten(1, (sae.places, -1))
        self.relative_FM = sae.relative_norms().double().cpu()
        self.own_F = self.relative_FM.argmax(1)
        here = torch.arange(sae.d_sae, device=sae.device)
        self.directions_FD = scaled_FMd[here, self.own_F.to(sae.device)].contiguous()
        """Of each latent, what it writes where it is strongest."""
        self.along_FM = torch.einsum("fmd,fd->fm", scaled_FMd, self.directions_FD).double().cpu()
        shape = (sae.d_sae, sae.places)
        self.error_FM = torch.zeros(shape, dtype=torch.float64)
        self.reconstruction_FM = torch.zeros(shape, dtype=torch.float64)
        self.energy_F = torch.zeros(sae.d_sae, dtype=torch.float64)

    @torch.no_grad()
    def add(self, x_ND: Tensor, target_ND: Tensor | None = None) -> None:
        """Takes in activations ``[n, d_in]``, and what is to be reconstructed where that is
        something else."""
        sae = self.sae
        x_ND = x_ND.to(sae.device)
        target_ND = x_ND if target_ND is None else target_ND.to(sae.device)
        codes = sae.encode(x_ND)
        made_ND = sae.decode_without_bias(codes)
        error_ND = target_ND - sae.b_dec - made_ND
        latents, values = codes.indices.cpu().flatten(), codes.values.double().cpu().flatten()
        self.energy_F.index_add_(0, latents, values.pow(2))
        for sums, vectors_ND in ((self.error_FM, error_ND), (self.reconstruction_FM, made_ND)):
            parts = (vectors_ND * sae.written_scale).unflatten(1, (sae.places, -1))
            for place in range(sae.places):
                along = row_products(
                    codes.indices, parts[:, place].contiguous(), self.directions_FD
                )
                sums[:, place].index_add_(0, latents, values * along.double().cpu().flatten())

    def result(self) -> LatentScaling:
        lengths_F = self.directions_FD.double().pow(2).sum(1).cpu()
        unit_F1 = (self.energy_F * lengths_F)[:, None]
        error_FM = self.error_FM / unit_F1 + self.along_FM / lengths_F[:, None]
        return LatentScaling(
            self.own_F,
            self.relative_FM,
            _ratios(error_FM, self.own_F),
            _ratios(self.reconstruction_FM / unit_F1, self.own_F),
            self.energy_F,
        )


def _ratios(beta_FM: Tensor, own_F: Tensor) -> Tensor:
    """Each place's over that of the latent's own."""
    own = beta_FM.gather(1, own_F[:, None])
    return beta_FM / torch.where(own > 0, own, torch.nan)


def latent_scaling(
    sae: Crosscoder,
    source: RowSource,
    rows: npt.NDArray[np.int64],
    max_tokens: int,
    columns: Columns = WHOLE,
    advance: Callable[[int], None] = lambda _tokens: None,
) -> LatentScaling:
    """Of the first ``max_tokens`` usable tokens of ``rows``."""
    sums, seen = ScalingSums(sae), 0
    for start in range(0, len(rows), ROWS_AT_ONCE):
        if seen >= max_tokens:
            break
        acts, _ = source.rows(rows[start : start + ROWS_AT_ONCE])
        kept = columns.usable(acts)
        read, target = columns.reads(acts)[kept], columns.target(acts)
        read = read[: max_tokens - seen]
        target = None if target is None else target[kept][: max_tokens - seen]
        if len(read):
            sums.add(read, target)
        seen += len(read)
        advance(len(read))
    return sums.result()
