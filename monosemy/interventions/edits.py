"""Interventions as edits of one forward of the host model.  Needs torch.

All interventions of a set hold at once.  At each site they are computed from the activations as
they come there, and their differences are summed, so that their order means nothing (but rounding).
Sites are reached in the model's order: a later one sees what an earlier one changed, and what is
read at one site for a change at another (transcoders) is what the model goes on with.  A token that
nothing moves keeps its activations bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.interventions.intervention import (
    ONLY_SAE,
    DecoderRow,
    Direction,
    Feature,
    Function,
    Intervention,
    Reconstruction,
    What,
)
from monosemy.models.hook_points import Edit
from monosemy.saes.codes import Codes

SAEs = HostedSAE | Mapping[str, HostedSAE]


class Interventions:
    """A set of interventions on one host model, ready for any number of forwards."""

    def __init__(self, interventions: Sequence[Intervention], saes: SAEs | None = None) -> None:
        """``saes`` by the names that the interventions use; a single one needs no name.

        Raises ``DataError`` for a latent that is not there or writes nothing, for an SAE without
        a name here, for an empty set, and for two that set the same thing at the same place.
        """
        self.interventions = tuple(interventions)
        self.saes = {ONLY_SAE: saes} if isinstance(saes, HostedSAE) else dict(saes or {})
        if not self.interventions:
            raise DataError("There is nothing to change.", "Name at least one feature.")
        self._sites: dict[str, _Site] = {}
        self.read_later: set[str] = set()
        """Sites whose activations a change at another site takes."""
        for each in self.interventions:
            self._place(each)
        for site in self._sites.values():
            site.check_contradictions()

    def edits(self, where_BS: Tensor, first: int = 0) -> Mapping[str, Edit]:
        """For one forward; tokens at which ``where_BS`` (bool) is false are left alone.

        ``first`` is the place in its row of the first token of this forward, after a cache.
        """
        forward = _Forward(self, where_BS, first)
        return {site: partial(forward.edit, site) for site in (*self.read_later, *self._sites)}

    def site(self, name: str) -> _Site | None:
        """What happens at a site, None if it is only read."""
        return self._sites.get(name)

    def hosted(self, name: str) -> HostedSAE:
        """The SAE of that name."""
        if name not in self.saes:
            listed = ", ".join(self.saes) or "none"
            raise DataError(f"There is no SAE named '{name}' here.", f"Named are: {listed}.")
        return self.saes[name]

    def _place(self, each: Intervention) -> None:
        what = each.what
        if isinstance(what, Direction):
            row_D = torch.tensor(what.vector)
            if not row_D.isfinite().all() or (each.how in ("clamp", "ablate") and not row_D.any()):
                raise DataError("A direction needs finite numbers, not all of them 0.")
            self._at(what.site).add(each, row_D)
        elif isinstance(what, Function):
            self._at(what.site).add(each, None)
            if what.reads not in (None, what.site):
                self.read_later.add(what.reads)
        else:
            hosted = self.hosted(what.sae)
            row_D = None
            if not isinstance(what, Reconstruction):
                hosted.direction(what.latent)  # raises
                row_D = hosted.sae.decoder_rows(torch.tensor([what.latent]))[0].float()
            self._at(hosted.target).add(each, row_D)
            if _needs_codes(each):
                self._needs(hosted, hosted.target)
        if each.where.active is not None:
            hosted = self.hosted(each.where.active.sae)
            hosted.direction(each.where.active.latent)  # raises
            self._needs(hosted, *self._sites_of(each))

    def _sites_of(self, each: Intervention) -> list[str]:
        if isinstance(each.what, Direction | Function):
            return [each.what.site]
        return [self.hosted(each.what.sae).target]

    def _needs(self, hosted: HostedSAE, *used_at: str) -> None:
        """What the SAE reads is to be at hand at these sites."""
        if any(site != hosted.site for site in used_at):
            self.read_later.add(hosted.site)

    def _at(self, site: str) -> _Site:
        return self._sites.setdefault(site, _Site())


@dataclass
class _Site:
    """What happens at one site."""

    moves: list[Intervention] = field(default_factory=list)
    """Those that move along one row each, whose sum is one matrix product."""
    rows: list[Tensor] = field(default_factory=list)
    """``[width]`` each, float32."""
    whole: list[Intervention] = field(default_factory=list)
    """Those that add or put in place a tensor of the activations' shape."""
    vectors: list[Tensor | None] = field(default_factory=list)
    """Of ``whole``: the vector of a direction."""

    measured: dict[str, tuple[list[int], list[int]]] = field(default_factory=dict)
    """By SAE: which of ``moves`` start from a latent's activation, and from whose."""
    along: list[int] = field(default_factory=list)
    """Which of ``moves`` start from the component along their row."""

    def add(self, each: Intervention, row_D: Tensor | None) -> None:
        if row_D is None or each.how == "replace":
            self.whole.append(each)
            self.vectors.append(row_D)
            return
        if each.sets and isinstance(each.what, Feature):
            columns, latents = self.measured.setdefault(each.what.sae, ([], []))
            columns.append(len(self.moves))
            latents.append(each.what.latent)
        elif each.sets:
            self.along.append(len(self.moves))
        self.moves.append(each)
        self.rows.append(row_D)

    def check_contradictions(self) -> None:
        """``DataError`` for two that say of one token what the same thing is to be."""
        replaced = [each for each in self.whole if each.how == "replace"]
        setting: dict[What, list[Intervention]] = {}
        for each in self.moves:
            if each.sets:
                setting.setdefault(each.what, []).append(each)
        for group in (replaced, *setting.values()):
            for one, other in combinations(group, 2):
                _refuse_both(one, other)
        for one in replaced:
            for what, group in setting.items():
                for other in () if _is_part(what, one.what) else group:
                    _refuse_both(one, other)


class _Forward:
    """What has been read in one forward."""

    def __init__(self, interventions: Interventions, where_BS: Tensor, first: int) -> None:
        self.set = interventions
        self.where_BS = where_BS
        self.first = first
        self._seen: dict[str, Tensor] = {}
        self._codes: dict[tuple[str, bool], Codes] = {}

    def edit(self, site: str, acts_BSD: Tensor) -> Tensor:
        plan = self.set.site(site)
        result = acts_BSD if plan is None else self._changed(site, plan, acts_BSD)
        if site in self.set.read_later:
            self._seen[site] = result
        return result

    def _changed(self, site: str, plan: _Site, acts_BSD: Tensor) -> Tensor:
        x_BSD = acts_BSD.float()
        touched_BS = torch.zeros(x_BSD.shape[:2], dtype=torch.bool, device=x_BSD.device)
        result_BSD = x_BSD
        # What is put in place comes first; everything else is a difference on top of it.
        order = sorted(
            zip(plan.whole, plan.vectors, strict=True), key=lambda pair: pair[0].how != "replace"
        )
        for each, vector_D in order:
            value_BSD = self._whole(site, each, vector_D, acts_BSD)
            where_BS = self._where(site, each, acts_BSD)
            touched_BS |= where_BS
            if each.how == "ablate":
                value_BSD = -value_BSD
            new_BSD = value_BSD if each.how == "replace" else result_BSD + value_BSD
            result_BSD = torch.where(where_BS[..., None], new_BSD, result_BSD)
        if plan.moves:
            rows_PD = torch.stack(plan.rows).to(x_BSD.device)
            if rows_PD.shape[1] != x_BSD.shape[-1]:
                raise DataError(f"{site} is {x_BSD.shape[-1]} wide, not {rows_PD.shape[1]}.")
            strength_BSP = self._strengths(site, plan, rows_PD, acts_BSD)
            touched_BS |= (strength_BSP != 0).any(-1)
            result_BSD = result_BSD + strength_BSP @ rows_PD
        return torch.where(touched_BS[..., None], result_BSD.to(acts_BSD), acts_BSD)

    def _whole(
        self, site: str, each: Intervention, vector_D: Tensor | None, acts_BSD: Tensor
    ) -> Tensor:
        """``[B, S, width]`` float32, where the activations are."""
        if vector_D is not None:
            value_BSD = vector_D.to(acts_BSD.device).expand(acts_BSD.shape)
        elif isinstance(each.what, Reconstruction):
            hosted = self.set.hosted(each.what.sae)
            x_ND = self._read(hosted.site, site, acts_BSD).flatten(0, 1).float()
            codes = self._encoded(each.what.sae, site, acts_BSD)
            value_ND = hosted.sae.decode(codes, x_ND.to(hosted.sae.device)).detach()
            value_BSD = value_ND.to(acts_BSD.device).reshape(acts_BSD.shape)
        else:
            assert isinstance(each.what, Function)
            read_BSD = self._read(each.what.reads or site, site, acts_BSD)
            value_ND = each.what.apply(read_BSD.reshape(-1, read_BSD.shape[-1]).float())
            value_BSD = value_ND.reshape(acts_BSD.shape).to(acts_BSD.device).float()
        return (
            value_BSD if each.strength == 1 or each.how == "ablate" else (each.strength * value_BSD)
        )

    def _strengths(self, site: str, plan: _Site, rows_PD: Tensor, acts_BSD: Tensor) -> Tensor:
        """How far each move goes at each token, ``[B, S, P]``."""
        x_BSD = acts_BSD.float()
        wanted = [0.0 if each.how == "ablate" else each.strength for each in plan.moves]
        strength_BSP = torch.tensor(wanted).to(x_BSD).expand(*x_BSD.shape[:2], -1).clone()
        for sae, (columns, latents) in plan.measured.items():
            strength_BSP[..., columns] -= self._active(sae, latents, site, acts_BSD)
        if plan.along:
            rows_AD = rows_PD[plan.along]
            strength_BSP[..., plan.along] -= x_BSD @ rows_AD.T / rows_AD.square().sum(-1)
        for i, each in enumerate(plan.moves):
            where_BS = self._where(site, each, acts_BSD)
            strength_BSP[..., i] = torch.where(where_BS, strength_BSP[..., i], 0.0)
        return strength_BSP

    def _where(self, site: str, each: Intervention, acts_BSD: Tensor) -> Tensor:
        where, device = each.where, acts_BSD.device
        result_BS = self.where_BS.to(device)
        if where.positions is not None:
            places_S = torch.arange(self.first, self.first + acts_BSD.shape[1], device=device)
            result_BS = result_BS & torch.isin(
                places_S, torch.tensor(where.positions, dtype=torch.long, device=device)
            )
        if where.active is not None:
            value_BS = self._active(where.active.sae, [where.active.latent], site, acts_BSD)[..., 0]
            result_BS = result_BS & (value_BS > where.above)
        if where.when is not None:
            reads = each.what.reads if isinstance(each.what, Function) else None
            result_BS = result_BS & where.when(self._read(reads or site, site, acts_BSD))
        return result_BS

    def _active(self, name: str, latents: Sequence[int], site: str, acts_BSD: Tensor) -> Tensor:
        """Activations of latents, ``[B, S, len(latents)]``, where ``acts_BSD`` are."""
        codes = self._encoded(name, site, acts_BSD)
        return codes.of(latents).unflatten(0, acts_BSD.shape[:2]).to(acts_BSD.device)

    def _encoded(self, name: str, site: str, acts_BSD: Tensor) -> Codes:
        """An SAE's codes in this forward: once for its own site, and once for those after it."""
        hosted = self.set.hosted(name)
        key = (name, hosted.site == site)
        if key not in self._codes:
            x_ND = self._read(hosted.site, site, acts_BSD).flatten(0, 1).float()
            codes = hosted.sae.encode(x_ND.to(hosted.sae.device))
            self._codes[key] = Codes(codes.indices, codes.values.detach())
        return self._codes[key]

    def _read(self, reads: str, site: str, acts_BSD: Tensor) -> Tensor:
        if reads == site:
            return acts_BSD
        if reads not in self._seen:
            raise DataError(f"What is changed at {site} depends on {reads}, which comes later.")
        return self._seen[reads]


def _needs_codes(each: Intervention) -> bool:
    return isinstance(each.what, Reconstruction) or (isinstance(each.what, Feature) and each.sets)


def _is_part(what: What, whole: What) -> bool:
    """Whether it can be set within what is put in place: features of a reconstruction can."""
    return isinstance(what, Feature) and isinstance(whole, Reconstruction) and what.sae == whole.sae


def _refuse_both(one: Intervention, other: Intervention) -> None:
    if one.where.may_meet(other.where):
        names = " and ".join(f"{each.how} {_named(each.what)}" for each in (one, other))
        raise DataError(
            f"Two interventions contradict each other at the same tokens: {names}.",
            "Keep one of them, or give them different positions.",
        )


def _named(what: What) -> str:
    if isinstance(what, Feature | DecoderRow):
        return f"latent {what.latent}"
    return type(what).__name__.lower()
