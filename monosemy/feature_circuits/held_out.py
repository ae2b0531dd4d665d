"""A circuit on pairs that took no part in finding it: everything else mean-ablated.

A feature outside of the circuit has its mean over the patches of the pairs that the circuit was
found on (over clean prompts where there are none): at its position where these are aligned, else
over all tokens.  Tokens that an SAE does not read stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from monosemy.feature_circuits.coded_sites import DimensionCoder, run
from monosemy.feature_circuits.effects import Done
from monosemy.feature_circuits.intervals import OverPrompts
from monosemy.feature_circuits.nodes import Features, Floats, SiteNodes, in_columns, like, strongest
from monosemy.feature_circuits.pairs import PairGroup
from monosemy.feature_circuits.readings import (
    GroupReading,
    SiteReading,
    side_of,
    usable_tokens,
)
from monosemy.models.host import HostModel
from monosemy.specs.feature_circuits import CircuitAtNodes, HeldOutCheck
from monosemy.specs.rest.circuits import WithInterval

_LEAST_EFFECT = 1e-6
"""Of all ablations together, below which faithfulness has no meaning."""


@dataclass(frozen=True)
class SiteMeans:
    """What a site is ablated to, by column."""

    written_CD: Tensor
    """What features write on average, with the bias."""
    error_CD: Tensor
    feature_CF: Tensor
    latents: tuple[int, ...]


def means_of(readings: Sequence[SiteReading], latents: Sequence[int], aligned: bool) -> SiteMeans:
    """Over the patches of groups at one site; clean prompts where there are none."""
    sums: list[Tensor] = []
    count: Tensor | None = None
    for reading in readings:
        side = reading.clean if reading.patch.coded is None else reading.patch
        assert side.coded is not None
        shape = side.usable_PT.shape
        written_PTD = side.coded.written().view(*shape, -1)
        parts = (
            written_PTD,
            side.value_PTD - written_PTD,
            side.coded.of(latents).view(*shape, -1),
            torch.ones(*shape, 1),
        )
        own = [
            torch.from_numpy(in_columns(part * side.usable_PT[..., None], aligned))
            for part in parts
        ]
        sums = own if count is None else [a + b for a, b in zip(sums, own, strict=True)]
        count = sums[3]
    assert count is not None
    written, error, feature = ((each / count.clamp_min(1)).float() for each in sums[:3])
    return SiteMeans(written, error, feature, tuple(latents))


class AblatedHost:
    """A host whose coded sites hold a circuit alone, or all but it."""

    def __init__(
        self,
        host: HostModel,
        readings: Sequence[Sequence[SiteReading]],
        numbers: Sequence[int],
        aligned: bool,
        batch: int,
        done: Done = lambda _: None,
    ) -> None:
        """``readings``: by site and group, of the pairs that the circuit was found on;
        ``numbers``: what the sites are called by features; ``done``: told of rows after every
        batch, as it may stop the run."""
        self.host, self.readings, self.numbers = host, readings, list(numbers)
        self.sites = [groups[0].site for groups in readings]
        self.aligned, self.batch, self.done = aligned, batch, done
        self._means: dict[tuple[int, tuple[int, ...]], SiteMeans] = {}

    def metric(
        self,
        groups: Sequence[PairGroup],
        circuit: Features | None,
        errors: bool = True,
        complement: bool = False,
    ) -> Floats:
        """Of clean prompts, ``[P]``; ``circuit`` None: the host as it is.  ``complement``: without
        the circuit, everything else as it comes."""
        values = []
        with torch.no_grad():
            for group in groups:
                for rows in torch.arange(len(group)).split(self.batch):
                    put = _Ablation(self, circuit, errors, complement, group.bos)
                    logits_RV = run(self.host, self.sites, group.clean_PT[rows], put)
                    values.append(group.metric(logits_RV, rows.tolist()).cpu())
                    self.done(len(rows))
        return torch.cat(values).double().numpy()

    def means(self, at: int, latents: Sequence[int]) -> SiteMeans:
        key = at, tuple(latents)
        if key not in self._means:
            self._means = {own: each for own, each in self._means.items() if own[0] != at}
            self._means[key] = means_of(self.readings[at], latents, self.aligned)
        return self._means[key]


class _Ablation:
    """What is put in place in one forward."""

    def __init__(
        self,
        ablated: AblatedHost,
        circuit: Features | None,
        errors: bool,
        complement: bool,
        bos: int,
    ) -> None:
        self.ablated, self.circuit, self.bos = ablated, circuit, bos
        self.errors, self.complement = errors, complement

    def __call__(self, at: int, read_RTD: Tensor, own_RTD: Tensor) -> Tensor | None:
        coder, circuit = self.ablated.sites[at].coder, self.circuit
        if circuit is None or coder is None:
            return None
        places = circuit.at_site(self.ablated.numbers[at])
        latents = sorted({circuit.latent[place] for place in places})
        if self.complement and not latents:
            return None
        read, own = read_RTD.cpu(), own_RTD.cpu()
        means = self.ablated.means(at, latents)
        usable_RT = usable_tokens(coder, read, self.bos)
        coded = coder.encode(read.flatten(0, 1), own.flatten(0, 1), usable_RT.flatten())
        deviation_RTF = coded.of(latents).view(*usable_RT.shape, -1) - means.feature_CF
        if self.ablated.aligned:
            mask_TF = torch.zeros(usable_RT.shape[1], len(latents))
            for place in places:
                mask_TF[circuit.column[place], latents.index(circuit.latent[place])] = 1
            deviation_RTF = deviation_RTF * mask_TF
        kept_RTD = deviation_RTF @ coder.rows(latents) if latents else torch.zeros_like(own)
        if self.complement:
            made = own - kept_RTD
        else:
            error = own - coded.written().view_as(own) if self.errors else means.error_CD
            made = means.written_CD + error + kept_RTD
        return torch.where(usable_RT[..., None], made, own).to(own_RTD)


def check_held_out(
    ablated: AblatedHost,
    groups: Sequence[PairGroup],
    features: Features,
    nodes: Sequence[SiteNodes],
    neurons: tuple[AblatedHost, Sequence[SiteNodes]] | None,
    random_circuits: int,
    seed: int,
) -> HeldOutCheck:
    """Circuits of the first 1, 2, 4, ... of ``features``, and random ones of ``nodes``.

    ``neurons``: the host with dimensions in place of features, and their effects.
    """
    rng = np.random.default_rng(abs(seed))
    nothing = Features((), (), (), ())
    host_P = ablated.metric(groups, None)
    none_P = ablated.metric(groups, nothing, errors=False)
    prompts = OverPrompts(groups, seed)
    share = _Faithfulness(host_P, none_P, prompts)
    sizes = _doubling(len(features)) if abs(share.whole) >= _LEAST_EFFECT else []
    curve = []
    for size in sizes:
        circuit = features.first(size)
        drawn = [like(circuit, nodes, rng) for _ in range(random_circuits)] if size else []
        by_dimension = None
        if neurons is not None and size:
            own = strongest(neurons[1], size)
            by_dimension = share.of(neurons[0].metric(groups, own, errors=False))
        curve.append(
            CircuitAtNodes(
                nodes=size,
                with_errors=share.of(ablated.metric(groups, circuit)),
                without_errors=share.of(ablated.metric(groups, circuit, errors=False)),
                complement=share.of(ablated.metric(groups, circuit, complement=True)),
                random_with_errors=share.span([ablated.metric(groups, each) for each in drawn]),
                random_without_errors=share.span(
                    [ablated.metric(groups, each, errors=False) for each in drawn]
                ),
                neurons=by_dimension,
            )
        )
    return HeldOutCheck(
        pairs=len(host_P),
        host=prompts.mean(host_P),
        none=prompts.mean(none_P),
        curve=curve,
    )


class _Faithfulness:
    """(metric - none) / (host - none), means over pairs."""

    def __init__(self, host_P: Floats, none_P: Floats, prompts: OverPrompts) -> None:
        self.none_P, self.whole_P, self.prompts = none_P, host_P - none_P, prompts
        self.whole = float(self.whole_P.mean())

    def of(self, metric_P: Floats) -> WithInterval:
        return self.prompts.ratio(metric_P - self.none_P, self.whole_P, _LEAST_EFFECT)

    def span(self, metrics: Sequence[Floats]) -> WithInterval | None:
        values = [float((each - self.none_P).mean()) / self.whole for each in metrics]
        if not values:
            return None
        return WithInterval(value=float(np.mean(values)), low=min(values), high=max(values))


def most_passes(features: int, random_circuits: int, neurons: bool) -> int:
    """How often ``check_held_out`` reads the pairs, at most."""
    others = len(_doubling(features)) - 1
    return 2 + 3 + others * (3 + 2 * random_circuits + neurons)


def _doubling(count: int) -> list[int]:
    """0, 1, 2, 4, ... and all."""
    sizes = [0]
    size = 1
    while size < count:
        sizes.append(size)
        size *= 2
    return [*sizes, count] if count else sizes


def dimension_nodes(
    readings: Sequence[GroupReading], gradients: Sequence[Sequence[Tensor]], aligned: bool
) -> list[SiteNodes]:
    """Effects of the dimensions of every site at the tokens that its SAE reads; of the prompt's
    tokens none."""
    nodes = []
    pairs = sum(len(each.group) for each in readings)
    for number, site in enumerate(readings[0].sites):
        width = site.change_PTD.shape[-1] if site.site.coder is not None else 0
        effect_CF = sum(
            in_columns(_effect_of_each(own[number], each.sites[number])[..., :width], aligned)
            for each, own in zip(readings, gradients, strict=True)
        )
        effect_CF = np.asarray(effect_CF) / pairs
        nodes.append(SiteNodes(tuple(range(width)), effect_CF, np.zeros(len(effect_CF))))
    return nodes


def _effect_of_each(gradient_PTD: Tensor, site: SiteReading) -> Tensor:
    usable_PT = site.clean.usable_PT | site.patch.usable_PT
    return gradient_PTD * site.change_PTD * usable_PT[..., None]


def dimension_reading(reading: SiteReading, bos: int) -> SiteReading:
    """The same with dimensions as features in place of its SAE's, at the tokens that it reads."""
    coder = reading.site.coder
    assert coder is not None
    width = reading.clean.value_PTD.shape[-1]
    site = replace(reading.site, coder=DimensionCoder(width, coder))
    clean = reading.clean
    own = side_of(site, (clean.read_PTD, clean.value_PTD), bos)
    if reading.patch.coded is None:
        return SiteReading(site, own, replace(own, coded=None))
    patch = reading.patch
    return SiteReading(site, own, side_of(site, (patch.read_PTD, patch.value_PTD), bos))
