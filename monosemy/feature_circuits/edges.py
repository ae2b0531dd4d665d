"""What nodes add to one another: edges that go straight from one site to another.

Every site's activations are leaves, so that nothing flows through a site between (the paper's stop
of gradients).  The edge from node u to feature d is

    (u_clean - u_patch) * d pre_d / d u * slope_d * g_d

where ``pre_d`` is d's pre-activation, ``g_d`` the metric's gradient along what d writes, and
``slope_d`` what its activation changes by per change of its pre-activation between both prompts:
1 where it is active on both, as the gradient has it, and between 0 and 1 where it is switched on or
off, where a gradient has 0 or 1.  The gradient of ``pre_d`` is the mean over midpoints of the way
on which all leaves go from patch to clean, so that the edges into d add up to d's effect, as far as
midpoints go and the slope is not above 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from monosemy.feature_circuits.coded_sites import SaeCoder, run
from monosemy.feature_circuits.effects import Done
from monosemy.feature_circuits.nodes import Features, Floats, Gradients
from monosemy.feature_circuits.readings import GroupReading, SiteReading
from monosemy.models.host import HostModel

GOAL = -1
"""The target that is the metric itself."""


@dataclass(frozen=True)
class Edges:
    """Into K features, and into the metric as the last: K + 1 rows; S sites, C columns."""

    feature_RK: Floats
    """From each kept feature."""
    error_RSC: Floats
    """From each error; at a site of tokens from these."""
    left_out_RS: Floats
    """From all other features of a site together."""

    def sums(self) -> Floats:
        """What enters each target, ``[R]``."""
        return np.asarray(
            self.feature_RK.sum(1) + self.error_RSC.sum((1, 2)) + self.left_out_RS.sum(1)
        )


def find_edges(
    host: HostModel,
    readings: Sequence[GroupReading],
    gradients: Gradients,
    features: Features,
    shares: Tensor,
    aligned: bool,
    batch: int,
    done: Done = lambda _: None,
) -> Edges:
    """``gradients``: the metric's at every site; ``shares``: midpoints of the way."""
    sites, count = len(readings[0].sites), len(features)
    columns = readings[0].group.clean_PT.shape[1] if aligned else 1
    edges = Edges(
        np.zeros((count + 1, count)),
        np.zeros((count + 1, sites, columns)),
        np.zeros((count + 1, sites)),
    )
    for reading, own in zip(readings, gradients, strict=True):
        pairs = torch.arange(len(reading.group))
        rows = torch.cartesian_prod(pairs, torch.arange(len(shares))).view(-1, 2)
        weights = _Weights(reading, own, features, aligned)
        for part in rows.split(batch):
            _Batch(host, reading, weights, features, edges).add(part[:, 0], shares[part[:, 1]])
            done(len(part))
    total = sum(len(each.group) for each in readings) * len(shares)
    return Edges(edges.feature_RK / total, edges.error_RSC / total, edges.left_out_RS / total)


class _Weights:
    """Of each kept feature, what a change of its pre-activation does to the metric."""

    def __init__(
        self, reading: GroupReading, gradients: Sequence[Tensor], features: Features, aligned: bool
    ) -> None:
        self.aligned = aligned
        self.places: list[list[int]] = []
        """By site: places of its features among all."""
        self.distinct: list[list[int]] = []
        """By site: its latents, each once, and which of them a feature is."""
        self.which: list[list[int]] = []
        self.by_site: list[Tensor | None] = []
        """``[P, T, n]`` for the distinct latents."""
        for number, site in enumerate(reading.sites):
            places = features.at_site(number)
            distinct = sorted({features.latent[place] for place in places})
            self.places.append(places)
            self.distinct.append(distinct)
            self.which.append([distinct.index(features.latent[place]) for place in places])
            weight = None if not places else _weight(site, gradients[number], distinct)
            self.by_site.append(weight)


def _weight(site: SiteReading, gradient_PTD: Tensor, latents: list[int]) -> Tensor:
    coder = site.site.coder
    assert isinstance(coder, SaeCoder)  # its features are nodes
    along_PTF = gradient_PTD @ coder.rows(latents).T
    change_PTF = site.change_of(latents)
    if site.patch.coded is None:
        return along_PTF * (change_PTF != 0)
    sides = [
        coder.pre_activations(side.read_PTD.flatten(0, 1), latents).view_as(change_PTF)
        for side in (site.clean, site.patch)
    ]
    moved_PTF = sides[0] - sides[1]
    slope_PTF = torch.where(moved_PTF == 0, 0.0, change_PTF / moved_PTF).nan_to_num(0, 0, 0)
    return along_PTF * slope_PTF.clamp(0, 1)


class _Batch:
    """R rows of the host, each a pair at a share of the way."""

    def __init__(
        self,
        host: HostModel,
        reading: GroupReading,
        weights: _Weights,
        features: Features,
        edges: Edges,
    ) -> None:
        self.host, self.reading, self.weights = host, reading, weights
        self.features, self.edges = features, edges

    def add(self, pair_R: Tensor, share_R: Tensor) -> None:
        leaves: list[Tensor] = []
        pre: list[Tensor | None] = []

        def put(number: int, read: Tensor, own: Tensor) -> Tensor:
            site = self.reading.sites[number]
            latents, coder = self.weights.distinct[number], site.site.coder
            made = None
            if latents:
                assert isinstance(coder, SaeCoder)
                made = coder.pre_activations(read.flatten(0, 1).cpu(), latents)
                made = made.view(*read.shape[:2], -1)
            pre.append(made)
            patch_RTD, change_RTD = site.patch.value_PTD[pair_R], site.change_PTD[pair_R]
            leaf = (patch_RTD + share_R[:, None, None] * change_RTD).to(own).requires_grad_()
            leaves.append(leaf)
            return leaf

        with torch.enable_grad():
            sites = [each.site for each in self.reading.sites]
            logits_RV = run(self.host, sites, self.reading.group.clean_PT[pair_R], put)
            metric = self.reading.group.metric(logits_RV, pair_R.tolist()).sum()
        sources = [
            _Source(self.reading, self.weights, number, pair_R) for number in range(len(leaves))
        ]
        for number, made in enumerate(pre):
            if made is None or not made.requires_grad:
                continue
            weight_RTF = self.weights.by_site[number][pair_R]  # type: ignore[index]
            into = zip(self.weights.places[number], self.weights.which[number], strict=True)
            for place, at in into:
                part_RT = made[..., at] * weight_RTF[..., at]
                if self.weights.aligned:
                    part_RT = part_RT[:, self.features.column[place]]
                self._trace(place, part_RT.sum(), leaves[:number], sources)
        self._trace(GOAL, metric, leaves, sources)

    def _trace(
        self, row: int, target: Tensor, leaves: list[Tensor], sources: list[_Source]
    ) -> None:
        gradients = torch.autograd.grad(target, leaves, retain_graph=True, allow_unused=True)
        for number, gradient_RTD in enumerate(gradients):
            if gradient_RTD is not None:
                sources[number].add(row, gradient_RTD.cpu(), self.features, self.edges)


class _Source:
    """The nodes of a site, as what others are made of."""

    def __init__(
        self, reading: GroupReading, weights: _Weights, number: int, pair_R: Tensor
    ) -> None:
        site = reading.sites[number]
        self.number, self.aligned = number, weights.aligned
        self.places, self.which = weights.places[number], weights.which[number]
        self.change_RTD = site.change_PTD[pair_R]
        self.error_RTD = site.error_change_PTD[pair_R]
        self.rows_FD: Tensor | None = None
        if self.places and site.site.coder is not None:
            latents = weights.distinct[number]
            self.rows_FD = site.site.coder.rows(latents)
            self.change_RTF = site.change_of(latents)[pair_R]

    def add(self, row: int, gradient_RTD: Tensor, features: Features, edges: Edges) -> None:
        total = float((gradient_RTD * self.change_RTD).double().sum())
        error_T = (gradient_RTD * self.error_RTD).double().sum((0, 2)).numpy()
        edges.error_RSC[row, self.number] += error_T if self.aligned else error_T.sum()
        kept = 0.0
        if self.rows_FD is not None:
            made_RTF = (gradient_RTD @ self.rows_FD.T) * self.change_RTF
            made_TF = made_RTF.double().sum(0).numpy()
            for place, at in zip(self.places, self.which, strict=True):
                column = features.column[place]
                value = made_TF[column, at] if self.aligned else made_TF[:, at].sum()
                edges.feature_RK[row, place] += value
                kept += value
        edges.left_out_RS[row, self.number] += total - float(error_T.sum()) - kept
