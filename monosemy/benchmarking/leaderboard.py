"""Leaderboards: what was measured of several SAEs by one protocol, beside each other.  No torch."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monosemy.benchmarking.standing import Standing, standing
from monosemy.benchmarking.units import Array
from monosemy.errors import SpecError
from monosemy.specs.rest.benchmarks import (
    BenchmarkAbout,
    BenchmarkFigure,
    BenchmarkMetric,
    BenchmarkUnit,
    Leaderboard,
    LeaderboardHeader,
    RankedRecipe,
    RankedSae,
)

_DIAGNOSTIC = "SAEs are not ranked by this benchmark."


@dataclass(frozen=True)
class Entry:
    """What was measured of one SAE."""

    id: uuid.UUID
    sae: str
    about: BenchmarkAbout
    units: Sequence[BenchmarkUnit]
    metrics: Sequence[BenchmarkMetric]
    """One metric: of the SAE, of its baselines and of chance."""
    notes: Sequence[str]

    @property
    def own(self) -> BenchmarkMetric:
        return next(each for each in self.metrics if each.subject == "sae")


def leaderboard(
    header: LeaderboardHeader,
    entries: Sequence[Entry],
    metric: str,
    metrics: Sequence[str],
    unit: str,
    against: str | None = None,
) -> Leaderboard:
    """SAEs by ``metric``, which every entry has; ``against`` names the one that the others are held
    against, by default the best.

    ``SpecError`` where none of the entries is called ``against``.
    """
    better = entries[0].own.better if entries else "neither"
    entries = sorted(entries, key=lambda each: _place(each.own, better == "higher"))
    names = list(dict.fromkeys(one.name for each in entries for one in each.units))
    families = {one.name: one.family for each in entries for one in each.units}
    parts_NU, weights_NU = _aligned(entries, names)
    stands = standing(parts_NU, weights_NU, [families[name] for name in names])
    ranks = stands.ranks(better) if header.ranks else [None] * len(entries)
    held = _held_against(entries, against)
    pairs, apart = stands.pairs
    notes = dict.fromkeys(note for each in entries for note in each.notes)
    return Leaderboard(
        **header.model_dump(),
        metric=metric,
        better=better,
        metrics=list(metrics),
        unit=unit,
        units=stands.units,
        families=stands.families,
        against=None if held is None else entries[held].sae,
        rows=[_row(each, at, stands, ranks[at], held) for at, each in enumerate(entries)],
        recipes=_recipes(entries),
        pairs=pairs,
        apart=apart,
        notes=[*([] if header.ranks else [_DIAGNOSTIC]), *notes],
    )


def figure_of(metric: BenchmarkMetric) -> BenchmarkFigure:
    """Without what it is made of."""
    return BenchmarkFigure.model_validate(metric.model_dump(exclude={"parts", "weights"}))


def _place(metric: BenchmarkMetric, higher: bool) -> tuple[bool, float]:
    """The best first, what has no value last; where neither end is better, by value."""
    value = metric.value
    return value is None, 0.0 if value is None else -value if higher else value


def _held_against(entries: Sequence[Entry], named: str | None) -> int | None:
    if named is not None:
        for at, each in enumerate(entries):
            if named in (each.sae, str(each.id)):
                return at
        there = ", ".join(each.sae for each in entries[:20])
        says = f"'{named}' was not measured by this protocol; there are: {there or 'none'}"
        raise SpecError([("against", says)])
    return 0 if len(entries) > 1 else None


def _aligned(entries: Sequence[Entry], names: Sequence[str]) -> tuple[Array, Array]:
    """(parts, weights), ``[N, U]`` in the order of ``names``; NaN where an SAE lacks a unit."""
    at = {name: place for place, name in enumerate(names)}
    parts_NU = np.full((len(entries), len(names)), math.nan)
    weights_NU = np.ones((len(entries), len(names)))
    for row, each in enumerate(entries):
        places = [at[one.name] for one in each.units]
        own = each.own
        parts_NU[row, places] = [math.nan if part is None else part for part in own.parts]
        if own.weights is not None:
            weights_NU[row, places] = own.weights
    return parts_NU, weights_NU


def _row(
    entry: Entry, at: int, stands: Standing, ranks: tuple[int, int] | None, held: int | None
) -> RankedSae:
    best, worst = ranks or (None, None)
    return RankedSae(
        id=entry.id,
        sae=entry.sae,
        architecture=entry.about.architecture,
        latents=entry.about.latents,
        recipe=entry.about.recipe,
        seed=entry.about.seed,
        figure=figure_of(entry.own),
        beside=[figure_of(each) for each in entry.metrics if each.subject != "sae"],
        best_rank=best,
        worst_rank=worst,
        difference=None if held is None or held == at else stands.difference(at, held),
    )


def _recipes(entries: Sequence[Entry]) -> list[RankedRecipe]:
    """In the order of their best; those without a value left out."""
    groups: dict[str, list[Entry]] = {}
    for each in entries:
        if each.own.value is not None:
            groups.setdefault(each.about.recipe, []).append(each)
    ranked = []
    for recipe, members in groups.items():
        values = [each.own.value for each in members]
        ranked.append(
            RankedRecipe(
                recipe=recipe,
                saes=[each.sae for each in members],
                mean=float(np.mean(values)),  # type: ignore[arg-type]
                seed_sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,  # type: ignore[arg-type]
            )
        )
    return ranked
