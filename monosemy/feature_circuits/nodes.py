"""Effects of all features, errors and tokens over a set of pairs, and which features are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.feature_circuits.readings import GroupReading, projected

Floats = npt.NDArray[np.float64]
Gradients = Sequence[Sequence[Tensor]]
"""By group and site: ``[P, T, D]``."""


@dataclass(frozen=True)
class SiteNodes:
    """The nodes of one site; C columns: 1 where positions are summed, else one for each token."""

    latents: tuple[int, ...]
    """F features that are active somewhere, ascending; none of the prompt's tokens."""
    effect_CF: Floats
    """Mean over pairs."""
    error_C: Floats
    """Of the error; of the prompt's tokens what they carry."""


@dataclass(frozen=True)
class Features:
    """K features, each at a site and a column, by their effects: the largest first."""

    site: tuple[int, ...]
    column: tuple[int, ...]
    latent: tuple[int, ...]
    effect: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.site)

    def first(self, count: int) -> Features:
        return Features(
            self.site[:count], self.column[:count], self.latent[:count], self.effect[:count]
        )

    def at_site(self, site: int) -> list[int]:
        """Places of those of a site."""
        return [place for place, each in enumerate(self.site) if each == site]


def in_columns(values_PTF: Tensor, aligned: bool) -> Floats:
    """Summed over pairs, and over positions unless they are aligned: ``[C, n]``."""
    summed_TF = values_PTF.double().sum(0)
    return (summed_TF if aligned else summed_TF.sum(0, keepdim=True)).cpu().numpy()


def site_nodes(
    readings: Sequence[GroupReading], gradients: Gradients, number: int, aligned: bool
) -> SiteNodes:
    """Effects at site ``number`` by gradients there."""
    pairs = sum(len(each.group) for each in readings)
    there = [each.sites[number] for each in readings]
    latents = sorted({latent for each in there for latent in each.active()})
    columns = there[0].change_PTD.shape[1] if aligned else 1
    effect_CF, error_C = np.zeros((columns, len(latents))), np.zeros(columns)
    for site, own in zip(there, gradients, strict=True):
        gradient_PTD = own[number]
        if latents:
            effect_CF += in_columns(projected(gradient_PTD, site, latents), aligned)
        error_PT1 = (gradient_PTD * site.error_change_PTD).sum(-1, keepdim=True)
        error_C += in_columns(error_PT1, aligned)[:, 0]
    return SiteNodes(tuple(latents), effect_CF / pairs, error_C / pairs)


def strongest(nodes: Sequence[SiteNodes], count: int) -> Features:
    """The features of the largest effects of all sites, without those of none."""
    sizes = [each.effect_CF.size for each in nodes]
    effect_N = np.concatenate([each.effect_CF.ravel() for each in nodes])
    site_N = np.repeat(np.arange(len(nodes)), sizes)
    start = np.concatenate([[0], np.cumsum(sizes)])
    order = np.argsort(-np.abs(effect_N), kind="stable")[:count]
    order = order[effect_N[order] != 0]
    columns, latents = [], []
    for place in order.tolist():
        own = nodes[site_N[place]]
        column, at = divmod(place - int(start[site_N[place]]), len(own.latents))
        columns.append(column)
        latents.append(own.latents[at])
    return Features(
        tuple(site_N[order].tolist()), tuple(columns), tuple(latents), tuple(effect_N[order])
    )


def like(features: Features, nodes: Sequence[SiteNodes], rng: np.random.Generator) -> Features:
    """As many random features at each site, of those that are active on the pairs."""
    sites: list[int] = []
    columns: list[int] = []
    latents: list[int] = []
    for number, own in enumerate(nodes):
        count = len(features.at_site(number))
        if not count:
            continue
        for place in rng.choice(own.effect_CF.size, count, replace=False).tolist():
            column, at = divmod(place, len(own.latents))
            sites.append(number)
            columns.append(column)
            latents.append(own.latents[at])
    return Features(tuple(sites), tuple(columns), tuple(latents), (0.0,) * len(sites))


def values_of(readings: Sequence[GroupReading], side: str) -> Floats:
    """The metric of all pairs, ``[P]``: ``clean`` or ``patch``."""
    return torch.cat([getattr(each, f"{side}_P") for each in readings]).double().numpy()
