"""The summary of a comparison, read for its pages: what is not in it is None."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monosemy.specs.rest.comparisons import ComparisonView


@dataclass(frozen=True)
class Above:
    """Partners that are at least so alike."""

    least: str
    of_partners: float
    of_a: float | None
    """As a share of all features of the first SAE."""


@dataclass(frozen=True)
class Chance:
    """Best similarities to a side that has nothing to do with the first."""

    n: float | None
    mean: float | None
    low: float | None
    high: float | None
    """The middle nine tenths."""
    largest: float | None


@dataclass(frozen=True)
class ComparisonFigures:
    view: ComparisonView
    matched: float | None
    share_a: float | None
    share_b: float | None
    mean_partners: float | None
    median_partners: float | None
    best_a: float | None
    best_b: float | None
    within_a: float | None
    above_chance: float | None
    """Share of the first side's features whose best similarity is above the largest by chance."""
    chance: Chance | None
    """None where there is no such thing, as for explanations."""
    above: list[Above]
    edges: list[float]
    counts: list[float]

    @property
    def says(self) -> str:
        """The drawing's figures in words."""
        n = f"{sum(self.counts):,.0f}"
        words = f"Best similarities of {n} features of {self.view.a.name} in {self.view.b.name}"
        if self.best_a is not None:
            words += f", mean {self.best_a:.2f}"
        if self.chance is not None and self.chance.mean is not None:
            words += f"; by chance {self.chance.mean:.2f}"
            if self.chance.largest is not None:
                words += f", at most {self.chance.largest:.2f}"
        return words


def figures_of(view: ComparisonView) -> ComparisonFigures:
    summary = view.summary
    share = _number(summary, "matched_share_a")
    above = summary.get("matched_above")
    null = summary.get("null")
    edges = _numbers(summary, "histogram", "edges")
    counts = _numbers(summary, "histogram", "counts")
    whole = len(edges) == len(counts) + 1 and len(counts) > 0
    return ComparisonFigures(
        view=view,
        matched=_number(summary, "matched"),
        share_a=share,
        share_b=_number(summary, "matched_share_b"),
        mean_partners=_number(summary, "mean_matched"),
        median_partners=_number(summary, "median_matched"),
        best_a=_number(summary, "mean_best_a"),
        best_b=_number(summary, "mean_best_b"),
        within_a=_number(summary, "within_a", "mean"),
        above_chance=_number(summary, "above_null"),
        chance=_chance(null) if isinstance(null, Mapping) else None,
        above=[
            Above(str(least), value, None if share is None else value * share)
            for least in (above if isinstance(above, Mapping) else {})
            if (value := _number(summary, "matched_above", least)) is not None
        ],
        edges=edges if whole else [],
        counts=counts if whole else [],
    )


def _chance(null: Mapping[str, Any]) -> Chance:
    names = ("n", "mean", "p05", "p95", "max")
    return Chance(*(_number(null, name) for name in names))


def _number(data: Mapping[str, Any], *path: str) -> float | None:
    found: Any = data
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    known = isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)
    return float(found) if known else None


def _numbers(data: Mapping[str, Any], outer: str, inner: str) -> list[float]:
    """Empty where they are not all numbers."""
    part = data.get(outer)
    values = part.get(inner) if isinstance(part, Mapping) else None
    if not isinstance(values, list):
        return []
    found = [_number({"value": each}, "value") for each in values]
    known = [each for each in found if each is not None]
    return known if len(known) == len(found) else []
