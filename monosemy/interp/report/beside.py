"""SAEs and bases beside each other: distributions of their scores, and what tells them apart.

Sides have different numbers of latents, so shares are compared and never counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from monosemy.errors import DataError
from monosemy.figures import fixed, signed
from monosemy.interp import metric_words
from monosemy.interp.report.build import finite
from monosemy.interp.report.measures import (
    Floats,
    defined,
    distribution,
    edges_of,
    median,
    told_apart,
)
from monosemy.interp.report.table import Scored, Table
from monosemy.interp.statistics.ranks import area_under_roc
from monosemy.specs.rest.reports import MOST_BESIDE

FEW = 20
"""Activations below which little can be said of a feature."""
_STRATA = ((0.0, 1e-4), (1e-4, 1e-3), (1e-3, 1e-2), (1e-2, 1.0))
"""Of density: from (not itself) to."""


@dataclass(frozen=True)
class Side:
    """An SAE or a basis, and the scores of its features."""

    name: str
    table: Table
    basis: str | None = None
    """`neurons` and the like; None for an SAE that was trained."""
    latents: int = 0
    l0: float | None = None
    fires: Mapping[str, float] = field(default_factory=dict)
    """``silent`` and ``few``: shares of the latents that fired never, and less than ``FEW`` times,
    in the index; empty where it is not indexed."""
    densities: Mapping[int, float] = field(default_factory=dict)
    """By feature: on which share of tokens it fires."""
    text: str | None = None
    """Id of the text that it is indexed over."""


def build_beside(sides: Sequence[Side], seed: int = 0) -> dict[str, Any]:
    """JSON-able: what each side is; for every scorer that all sides have the distribution of each,
    its median with its interval, overall and by density, the share told apart from the shuffled
    baseline, and how the first side differs from each other one.

    ``seed`` seeds the resampling.  Raises ``DataError`` unless there are two to ``1 + MOST_BESIDE``
    sides of different names that share a scorer of one metric.
    """
    if not 2 <= len(sides) <= 1 + MOST_BESIDE or len({side.name for side in sides}) < len(sides):
        raise DataError(f"2 to {1 + MOST_BESIDE} different SAEs can stand beside each other.")
    shared = [
        name
        for name in dict.fromkeys(name for each in sides[0].table for name in each.scores)
        if all(any(name in each.scores for each in side.table) for side in sides)
    ]
    if not shared:
        raise DataError(
            f"No scorer has scored features of all of {', '.join(each.name for each in sides)}.",
            "Submit score runs of one scorer for each.",
        )
    report = {
        "name": sides[0].name,
        "seed": seed,
        "one_text": len({side.text for side in sides}) == 1,
        "sides": [
            {
                "name": side.name,
                "basis": side.basis,
                "latents": side.latents,
                "l0": side.l0,
                "scored": len(side.table),
                **{name: side.fires.get(name) for name in ("silent", "few")},
            }
            for side in sides
        ],
        "scorers": {scorer: _of_scorer(scorer, sides, seed) for scorer in shared},
    }
    return {key: finite(value) for key, value in report.items()}


def _of_scorer(scorer: str, sides: Sequence[Side], seed: int) -> dict[str, Any]:
    rows = {side.name: _rows(side, scorer) for side in sides}
    every = [row for each in rows.values() for row in each.values()]
    if len({row.metric for row in every}) > 1:
        raise DataError(f"The scores of {scorer} have different metrics.")
    series = {name: defined(row.own for row in each.values()) for name, each in rows.items()}
    parts = {name: distribution(values, series, seed) for name, values in series.items()}
    first, *others = series
    return {
        "metric": every[0].metric,
        "chance": every[0].chance,
        "edges": edges_of(series.values()),
        "series": parts,
        "intervals": {name: told_apart(list(each.values())) for name, each in rows.items()},
        "densities": [
            {
                "above": low,
                "to": high,
                "medians": {
                    side.name: median(_within(side, rows[side.name], low, high), seed)
                    for side in sides
                },
            }
            for low, high in _STRATA
        ],
        "differences": [
            _difference(first, other, parts, series, every[0].metric) for other in others
        ],
    }


def _rows(side: Side, scorer: str) -> dict[int, Scored]:
    return {each.feature: each.scores[scorer] for each in side.table if scorer in each.scores}


def _within(side: Side, rows: Mapping[int, Scored], low: float, high: float) -> Floats:
    return defined(
        row.own for feature, row in rows.items() if low < side.densities.get(feature, -1.0) <= high
    )


def _difference(
    first: str,
    other: str,
    parts: Mapping[str, Any],
    series: Mapping[str, Floats],
    metric: str,
) -> dict[str, Any]:
    """Median of ``first`` less that of ``other``, with the interval that follows from theirs
    (MOVER, as Newcombe's interval of a difference); and the chance that a feature of ``first``
    scores above one of ``other``."""
    one, two = parts[first]["median"], parts[other]["median"]
    result: dict[str, Any] = {"other": other, "value": None, "low": None, "high": None}
    above = None
    if one is not None and two is not None:
        value = one["value"] - two["value"]
        low = value - math.hypot(one["value"] - one["low"], two["high"] - two["value"])
        high = value + math.hypot(one["high"] - one["value"], two["value"] - two["low"])
        result |= {"value": value, "low": low, "high": high}
        above = area_under_roc(series[first], series[other]).as_dict()
    told = _says(first, other, result, metric)
    return {**result, "above": above, "covers_zero": _covers_zero(result), "says": told}


def _covers_zero(difference: Mapping[str, Any]) -> bool | None:
    if difference["value"] is None:
        return None
    return bool(difference["low"] <= 0 <= difference["high"])


def _says(first: str, other: str, difference: Mapping[str, Any], metric: str) -> str:
    if difference["value"] is None:
        return f"There are no scores to hold {first} and {other} against each other."
    figures = (
        f"{signed(difference['value'], 2)} ({signed(difference['low'], 2)} to "
        f"{signed(difference['high'], 2)})"
    )
    what = f"The median {metric_words.name(metric)} of {first} less that of {other} is {figures}"
    if _covers_zero(difference):
        return f"{what}: the interval covers 0, so these scores do not tell the two apart."
    side, lower = (first, other) if difference["value"] > 0 else (other, first)
    return f"{what}: explanations predict {side} better than {lower}."


def medians_table(section: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """(density, the median of each side with its interval), where any side has some."""
    rows = []
    for each in section["densities"]:
        if not any(each["medians"].values()):
            continue
        cells = [
            "none scored"
            if found is None
            else f"{fixed(found['value'])} ({fixed(found['low'])} to {fixed(found['high'])}), "
            f"n {found['n']:,}"
            for found in each["medians"].values()
        ]
        rows.append((f"{each['above']:g} to {each['to']:g}", *cells))
    return rows
