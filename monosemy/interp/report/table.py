"""The results that a report is about, as plain values, out of the rows of a database."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from monosemy.errors import DataError
from monosemy.interp.judging.usage import Usage
from monosemy.interp.statistics.rates import Z95

SHUFFLED, EMPTY = "shuffled", "empty"
"""Kinds of baselines that a score brings along."""

_STRATA = ("recall_by_group", "accuracy_by_group", "by_group")
_CHANCE = {"balanced_accuracy": 0.5, "auroc": 0.5, "pearson": 0.0, "mean_surprisal_change": 0.0}
_COUNTS = ("prompt_tokens", "cached_tokens", "completion_tokens", "calls", "retries")


@dataclass(frozen=True)
class Measured:
    """A value with its interval; ``value`` is None where it is not defined."""

    value: float | None
    low: float
    high: float
    n: int
    n_failed: int
    z: float = Z95
    """Critical value of the interval (sequential scoring widens it)."""


@dataclass(frozen=True)
class Scored:
    """One explanation by one scorer."""

    scorer: str
    metric: str
    own: Measured
    baselines: Mapping[str, Measured] = field(default_factory=dict)
    """The same on the same examples by another feature's explanation, or by an empty one."""
    strata: Mapping[str, float] = field(default_factory=dict)
    """Recall (or what the scorer has in its place) by stratum of activation, 0 the weakest."""
    tiers: Mapping[str, float] = field(default_factory=dict)
    """The metric against each tier of negatives."""
    natural_precision: float | None = None
    chance: float | None = None
    """The value of guessing; None where that is not known."""
    usage: Usage = field(default_factory=Usage)
    baseline_usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class FeatureScores:
    """All that is known of one feature's explanation; ``scores`` by scorer."""

    feature: int
    explanation: str
    scores: Mapping[str, Scored]


Table = Sequence[FeatureScores]


def scored(row: Mapping[str, Any]) -> Scored:
    """A row of scores as the database has it: scorer, metric, value, low, high, n, n_failed and
    ``details`` (``ScoreResult.as_details``).  Raises ``DataError`` for one that lacks them; what in
    ``details`` has another form, as those of strangers may, counts as not known."""
    try:
        details = _part(row, "details")
        strata = next((_part(details, name) for name in _STRATA if name in details), {})
        baselines = {
            kind: part
            for kind, name in ((SHUFFLED, "baseline"), (EMPTY, "empty"))
            if _is_measured(part := _part(details, name))
        }
        baseline_usage = Usage()
        for part in baselines.values():
            baseline_usage.add(_usage(part))
        return Scored(
            scorer=row["scorer"],
            metric=row["metric"],
            own=_measured(row, details),
            baselines={kind: _measured(part, part) for kind, part in baselines.items()},
            strata=_values(strata),
            tiers=_values(_part(details, "tiers")),
            natural_precision=_finite(_part(details, "natural_precision").get("value")),
            chance=chance_of(row["metric"], details),
            usage=_usage(details),
            baseline_usage=baseline_usage,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"This is no row of scores: {error!r}.") from error


def chance_of(metric: str, details: Mapping[str, Any]) -> float | None:
    """The value that guessing gives; None where that is not known."""
    return _finite(details.get("chance", _CHANCE.get(metric)))


def _measured(columns: Mapping[str, Any], details: Mapping[str, Any]) -> Measured:
    value = _finite(columns["value"])
    critical = _finite(_part(details, "looks").get("critical_value"))
    low, high = (_finite(columns[name]) for name in ("low", "high"))
    return Measured(
        value,
        -math.inf if low is None else low,
        math.inf if high is None else high,
        int(columns["n"]),
        int(columns["n_failed"]),
        Z95 if critical is None else critical,
    )


def _is_measured(part: Mapping[str, Any]) -> bool:
    """Whether it has all that a value is reported with."""
    counts = (part.get(name) for name in ("n", "n_failed"))
    return {"value", "low", "high"} <= part.keys() and all(
        isinstance(count, int) and not isinstance(count, bool) for count in counts
    )


def _part(details: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What ``details`` has of that name; nothing where it has another form."""
    part = details.get(name)
    return part if isinstance(part, Mapping) else {}


def _values(parts: Mapping[str, Any]) -> dict[str, float]:
    """Those that are defined; of strata, the weakest first."""
    values = {
        name: _finite(part.get("value", part.get("mean")))
        for name, part in parts.items()
        if isinstance(part, Mapping)
    }
    ordered = sorted(values, key=lambda name: (len(name), name))
    return {name: value for name in ordered if (value := values[name]) is not None}


def _usage(details: Mapping[str, Any]) -> Usage:
    known = _part(details, "usage")
    counts = {name: int(_finite(known.get(name)) or 0) for name in _COUNTS}
    return Usage(seconds=_finite(known.get("seconds")) or 0.0, **counts)


def _finite(value: Any) -> float | None:
    """A number that can be reckoned with; None for whatever else it is."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
