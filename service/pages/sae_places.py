"""What an SAE of several places reads and writes, and what its evaluation says of that: who writes
each layer of a cross-layer transcoder, which latents of a crosscoder are of one place alone, and
whether an imported one can be what its files say.

Evaluations are of whatever version: what has not the expected form is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monosemy.specs.hooks import Hook
from monosemy.specs.part import MOST_LISTED
from monosemy.specs.rest.saes import HookView, SaeDetail
from service.pages.sae_figures import figure, part

SHOWN = 20
"""Exclusive latents that the page lists."""


@dataclass(frozen=True)
class Place:
    """One place of an SAE."""

    name: str
    reads: bool
    writes: bool
    fvu: float | None
    exclusive: int | None
    """Latents of a crosscoder that look exclusive to it."""
    genuine: int | None
    """Of these, those that are."""


@dataclass(frozen=True)
class WrittenBy:
    """Who writes a place of a cross-layer transcoder: shares of its own layer's latents and of
    those before, from the first layer on."""

    name: str
    own: float
    shares: list[float]


@dataclass(frozen=True)
class Exclusive:
    """A latent of a crosscoder that looks exclusive to a place."""

    latent: int
    place: str
    genuine: bool
    error: float | None
    """The largest ratio over the other places."""
    reconstruction: float | None


@dataclass(frozen=True)
class Places:
    """The section on places; empty lists where there is nothing to say."""

    places: list[Place]
    written_by: list[WrittenBy]
    by_distance: list[float]
    """Of the squared decoder norm of latents that fire, the share so many layers further on."""
    shared: int | None
    weak: int | None
    exclusive: list[Exclusive]
    """The first of them, those that fire most first."""
    more_exclusive: int
    """Further ones that the evaluation names."""
    doubts: list[str]
    """Of an imported SAE, what cannot be right."""


def hooked_places(sae: SaeDetail) -> Places:
    metrics = part(sae.metrics, "evaluation")
    crossed, scaling = part(metrics, "crosscoder"), part(metrics, "latent_scaling")
    layered = part(metrics, "cross_layer")
    latents = _exclusive(scaling.get("latents"))
    return Places(
        places=_places(sae, part(metrics, "parts"), crossed, scaling),
        written_by=_written_by(layered),
        by_distance=_shares(layered.get("norm_by_distance")),
        shared=_count(crossed.get("shared")),
        weak=_count(crossed.get("weak")),
        exclusive=latents[:SHOWN],
        more_exclusive=max(len(latents) - SHOWN, 0),
        doubts=_doubts(sae.config),
    )


def place_name(hook: HookView) -> str:
    """As specs and figures name it."""
    return str(Hook(hook.site, hook.host))


def _places(
    sae: SaeDetail, parts: Mapping[str, Any], crossed: Mapping[str, Any], scaling: Mapping[str, Any]
) -> list[Place]:
    reads, writes = (
        [place_name(each) for each in hooks] for hooks in (sae.hooks.reads, sae.hooks.writes)
    )
    names = list(dict.fromkeys((*reads, *writes)))
    if len(names) < 2:
        return []
    exclusive, judged = part(crossed, "exclusive"), part(scaling, "places")
    return [
        Place(
            name,
            name in reads,
            name in writes,
            figure(part(parts, name).get("fvu")),
            _count(exclusive.get(name)),
            _count(part(judged, name).get("genuine")),
        )
        for name in names
    ]


def _written_by(layered: Mapping[str, Any]) -> list[WrittenBy]:
    own = part(layered, "own_share")
    return [
        WrittenBy(str(name), share, shares)
        for name, given in part(layered, "written_by").items()
        if (shares := _shares(given)) and (share := figure(own.get(name))) is not None
    ]


def _exclusive(given: Any) -> list[Exclusive]:
    if not isinstance(given, list):
        return []
    exclusive = []
    for each in given[:MOST_LISTED]:
        latent = _count(each.get("latent")) if isinstance(each, Mapping) else None
        if latent is None:
            continue
        ratios = (_largest(each.get(name)) for name in ("nu_error", "nu_reconstruction"))
        exclusive.append(
            Exclusive(latent, str(each.get("place")), each.get("genuine") is True, *ratios)
        )
    return exclusive


def _largest(given: Any) -> float | None:
    values = given.values() if isinstance(given, Mapping) else ()
    numbers = [value for value in map(figure, values) if value is not None]
    return max(numbers, default=None)


def _doubts(config: Mapping[str, Any]) -> list[str]:
    check = part(part(config, "imported"), "check")
    doubts = check.get("doubts")
    return [each for each in doubts if isinstance(each, str)] if isinstance(doubts, list) else []


def _shares(given: Any) -> list[float]:
    numbers = list(map(figure, given)) if isinstance(given, list) else []
    shares = [number for number in numbers if number is not None]
    return shares if len(shares) == len(numbers) else []


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None
