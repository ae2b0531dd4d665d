"""What pairs of prompts give at coded sites, clean and patched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from monosemy.feature_circuits.coded_sites import Coded, CodedSite, Coder, run
from monosemy.feature_circuits.pairs import PairGroup
from monosemy.models.host import HostModel

_AT_ONCE = 1 << 22
"""Numbers of features that are held together."""


@dataclass(frozen=True)
class Side:
    """A site on P prompts of T tokens."""

    value_PTD: Tensor
    read_PTD: Tensor
    """What the coder reads."""
    usable_PT: Tensor
    """Tokens at which there are features."""
    coded: Coded | None
    """Of N = P * T tokens; None of the prompt's own tokens, and where features were set to 0."""


@dataclass(frozen=True)
class SiteReading:
    """A site on P pairs.  Where there is no patch, its side is what is left of the clean values
    with features and errors at 0."""

    site: CodedSite
    clean: Side
    patch: Side

    @cached_property
    def change_PTD(self) -> Tensor:
        """Clean less patch."""
        return self.clean.value_PTD - self.patch.value_PTD

    @cached_property
    def error_change_PTD(self) -> Tensor:
        """What of that is the error."""
        coder, coded = self.site.coder, self.clean.coded
        if coder is None or coded is None:
            return self.change_PTD
        before = coder.bias_D if self.patch.coded is None else self.patch.coded.written()
        return self.change_PTD - (coded.written() - before).view_as(self.change_PTD)

    def change_of(self, latents: Sequence[int]) -> Tensor:
        """Of features, clean less patch: ``[P, T, n]``."""
        assert self.clean.coded is not None
        change_NF = self.clean.coded.of(latents)
        if self.patch.coded is not None:
            change_NF = change_NF - self.patch.coded.of(latents)
        return change_NF.view(*self.clean.usable_PT.shape, -1)

    def active(self) -> set[int]:
        """Features that are active on either side."""
        sides = [each.coded for each in (self.clean, self.patch) if each.coded is not None]
        return {latent for coded in sides for latent in coded.active().tolist()}


@dataclass(frozen=True)
class GroupReading:
    """A group of P pairs at all sites."""

    group: PairGroup
    sites: list[SiteReading]
    clean_P: Tensor
    """The metric."""
    patch_P: Tensor


@torch.no_grad()
def read_group(
    host: HostModel, sites: Sequence[CodedSite], group: PairGroup, batch: int
) -> GroupReading:
    """Two forwards of every pair, ``batch`` prompts together."""
    clean_PT, patch_PT = group.clean_PT, group.patch_PT
    clean, clean_P = _values(host, sites, group, clean_PT, batch)
    if patch_PT is None:
        readings = [
            _read(site, each, None, group.bos) for site, each in zip(sites, clean, strict=True)
        ]
        patch_P = _all_at_zero(host, readings, group, batch)
        return GroupReading(group, readings, clean_P, patch_P)
    patch, patch_P = _values(host, sites, group, patch_PT, batch)
    readings = [
        _read(site, own, other, group.bos)
        for site, own, other in zip(sites, clean, patch, strict=True)
    ]
    return GroupReading(group, readings, clean_P, patch_P)


_Values = tuple[Tensor, Tensor]
"""(what is read, what is there), ``[P, T, width]`` each."""


def _values(
    host: HostModel, sites: Sequence[CodedSite], group: PairGroup, ids_PT: Tensor, batch: int
) -> tuple[list[_Values], Tensor]:
    parts: list[list[_Values]] = [[] for _ in sites]
    metrics = []

    def keep(number: int, read_RTD: Tensor, own_RTD: Tensor) -> None:
        parts[number].append((read_RTD.cpu().clone(), own_RTD.cpu().clone()))

    for rows in torch.arange(len(ids_PT)).split(batch):
        logits_RV = run(host, sites, ids_PT[rows], keep)
        metrics.append(group.metric(logits_RV, rows.tolist()).cpu())
    joined = [
        (torch.cat([read for read, _ in each]), torch.cat([own for _, own in each]))
        for each in parts
    ]
    return joined, torch.cat(metrics)


def usable_tokens(coder: Coder, read_RTD: Tensor, bos: int) -> Tensor:
    """Tokens at which there are features, bool ``[R, T]``."""
    usable_RT = coder.usable(read_RTD).clone()
    usable_RT[:, :bos] = False
    return usable_RT


def _read(site: CodedSite, clean: _Values, patch: _Values | None, bos: int) -> SiteReading:
    own = side_of(site, clean, bos)
    if patch is not None:
        return SiteReading(site, own, side_of(site, patch, bos))
    assert site.coder is not None  # the prompt's tokens have no 0
    zero_PTD = torch.where(own.usable_PT[..., None], site.coder.bias_D, own.value_PTD)
    return SiteReading(site, own, replace(own, value_PTD=zero_PTD, coded=None))


def side_of(site: CodedSite, values: _Values, bos: int) -> Side:
    """``values``: what is read, and what is there."""
    read_PTD, value_PTD = values
    if site.coder is None:
        return Side(value_PTD, read_PTD, value_PTD.new_zeros(value_PTD.shape[:2]).bool(), None)
    usable_PT = usable_tokens(site.coder, read_PTD, bos)
    read_ND, own_ND = read_PTD.flatten(0, 1), value_PTD.flatten(0, 1)
    coded = site.coder.encode(read_ND, own_ND, usable_PT.flatten())
    return Side(value_PTD, read_PTD, usable_PT, coded)


def _all_at_zero(
    host: HostModel, readings: Sequence[SiteReading], group: PairGroup, batch: int
) -> Tensor:
    """The metric with features and errors of all sites at 0, ``[P]``."""
    sites = [each.site for each in readings]
    metrics = []
    for rows in torch.arange(len(group)).split(batch):

        def zero(number: int, read: Tensor, own: Tensor, rows: Tensor = rows) -> Tensor:
            del read
            return readings[number].patch.value_PTD[rows].to(own)

        logits_RV = run(host, sites, group.clean_PT[rows], zero)
        metrics.append(group.metric(logits_RV, rows.tolist()).cpu())
    return torch.cat(metrics)


def projected(gradient_PTD: Tensor, reading: SiteReading, latents: Sequence[int]) -> Tensor:
    """Of features, change times gradient along their rows: ``[P, T, n]``."""
    coder, count = reading.site.coder, gradient_PTD[..., 0].numel()
    assert coder is not None
    step = max(1, _AT_ONCE // max(count, gradient_PTD.shape[-1]))
    parts = []
    for start in range(0, len(latents), step):
        some = list(latents[start : start + step])
        along_PTF = gradient_PTD @ coder.rows(some).to(gradient_PTD).T
        parts.append(along_PTF * reading.change_of(some))
    return torch.cat(parts, -1)
