"""Statistics of the scores of many features by one scorer, with those of their baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from monosemy.interp import heading
from monosemy.interp.judging.ledger import cost_of
from monosemy.interp.report.table import SHUFFLED, Measured, Scored
from monosemy.interp.statistics.bootstrap import RESAMPLES, cluster_bootstrap
from monosemy.interp.statistics.multiple import FDR, benjamini_hochberg
from monosemy.interp.statistics.ranks import area_under_roc
from monosemy.interp.statistics.rates import rate_of
from monosemy.interp.statistics.student import mean_interval
from monosemy.specs.parts import PriceSpec

BINS = 30
REFERENCE = "reference"
"""The scores of another SAE, such as one with random weights."""

_WORK = 20_000_000
"""Values resampled for one interval, at most."""
_DRAWN = 120
"""Features whose intervals are drawn."""

Floats = npt.NDArray[np.float64]


def measures(
    scored: Mapping[int, Scored],
    reference: Sequence[Scored] = (),
    price: PriceSpec | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """JSON-able, of one row per feature by one scorer; ``reference`` are rows of another SAE."""
    rows = list(scored.values())
    own = defined(row.own for row in rows)
    series = {"own": own}
    for kind in dict.fromkeys(kind for row in rows for kind in row.baselines):
        series[kind] = defined(row.baselines[kind] for row in rows if kind in row.baselines)
    if reference:
        series[REFERENCE] = defined(row.own for row in reference)
    judged = sum(row.own.n for row in rows)
    failed = sum(row.own.n_failed for row in rows)
    return {
        "metric": rows[0].metric,
        "chance": rows[0].chance,
        "features": len(rows),
        "undefined": len(rows) - len(own),
        "judgements": judged,
        "failed_share": failed / (judged + failed) if judged + failed else None,
        "edges": edges_of(series.values()),
        "series": {name: distribution(values, series, seed) for name, values in series.items()},
        "gains": {
            kind: _gain(rows, kind, seed) for kind in series if kind not in ("own", REFERENCE)
        },
        "intervals": told_apart(rows),
        **_drawn(scored),
        "strata": _by_name([row.strata for row in rows]),
        "tiers": _by_name([row.tiers for row in rows]),
        "natural_precision": median(
            [p for row in rows if (p := row.natural_precision) is not None], seed
        ),
        "above_reference": _above(own, series.get(REFERENCE)),
        "cost": _cost(rows, price),
    }


def median(values: Sequence[float] | Floats, seed: int = 0) -> dict[str, Any] | None:
    """Median with its interval by bootstrap over features; None without any value."""
    values_F = np.asarray(values, dtype=np.float64)
    if not len(values_F):
        return None
    resamples = int(np.clip(_WORK // len(values_F), 200, RESAMPLES))
    bounds = float(values_F.min()), float(values_F.max())
    estimate = cluster_bootstrap(
        np.median, [values_F], bounds=bounds, resamples=resamples, seed=seed
    )
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": len(values_F)}


def chance_of_exceeding(own: Measured, other: Measured) -> float | None:
    """One-sided p-value of own <= other, from the intervals' near ends: their distances to the
    values, in units of the critical values, are taken as standard errors (MOVER, as Newcombe's
    interval of a difference does).

    Both are on the same examples and taken as independent, which errs to the safe side as long as
    what is hard for one is hard for the other.  None where a value is missing; 1 where neither
    interval has a width.
    """
    if own.value is None or other.value is None:
        return None
    error = math.hypot((own.value - own.low) / own.z, (other.high - other.value) / other.z)
    if math.isinf(error) or error <= 0:
        return 1.0
    return 1 - NormalDist().cdf((own.value - other.value) / error)


def defined(estimates: Any) -> Floats:
    return np.array([each.value for each in estimates if each.value is not None], dtype=np.float64)


def edges_of(series: Any) -> list[float]:
    """Borders of ``BINS`` bins that hold all values; [] without any."""
    values = np.concatenate([np.zeros(0), *series])
    if not len(values):
        return []
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    return [float(edge) for edge in np.linspace(low, high, BINS + 1)]


def distribution(values: Floats, series: Mapping[str, Floats], seed: int) -> dict[str, Any]:
    edges = edges_of(series.values())
    counts = np.histogram(values, edges)[0].tolist() if edges else []
    shares = np.linspace(0, 1, 101)
    mean, low, high = mean_interval(values.tolist())
    return {
        "n": len(values),
        "median": median(values, seed),
        "mean": {"value": mean, "low": low, "high": high},
        "counts": counts,
        "percentiles": np.quantile(values, shares, method="inverted_cdf").tolist()
        if len(values)
        else [],
    }


def _gain(rows: Sequence[Scored], kind: str, seed: int) -> dict[str, Any] | None:
    """The median of value minus baseline, feature by feature."""
    return median(
        [
            row.own.value - row.baselines[kind].value  # type: ignore[operator]
            for row in rows
            if _pair(row, kind)
        ],
        seed,
    )


def _pair(row: Scored, kind: str) -> bool:
    held = row.baselines.get(kind)
    return row.own.value is not None and held is not None and held.value is not None


def told_apart(rows: Sequence[Scored]) -> dict[str, Any]:
    """How many features stand out from the shuffled baseline, and whether intervals can be trusted.

    ``above`` and ``below``: the share whose interval excludes the baseline's value, with Wilson's
    interval.  ``discoveries``: those above after Benjamini and Hochberg.  ``null``: the share of
    the baselines' own intervals that exclude chance: near 0.05 if another feature's explanation is
    as good as guessing and the intervals are what they say.
    """
    paired = [row for row in rows if _pair(row, SHUFFLED)]
    above, below, p_values = [], [], []
    for row in paired:
        p_value = chance_of_exceeding(row.own, row.baselines[SHUFFLED])
        value = row.baselines[SHUFFLED].value
        assert p_value is not None and value is not None
        above.append(bool(heading.is_told_apart(row.own.low, value)))
        below.append(row.own.high < value)
        p_values.append(p_value)
    null = [
        not held.low <= row.chance <= held.high
        for row in rows
        if row.chance is not None
        and (held := row.baselines.get(SHUFFLED)) is not None
        and held.value is not None
    ]
    return {
        "n": len(paired),
        "above": rate_of(above).as_dict(),
        "below": rate_of(below).as_dict(),
        "discoveries": benjamini_hochberg(p_values, FDR).as_dict(),
        "null": rate_of(null).as_dict(),
    }


def _drawn(scored: Mapping[int, Scored]) -> dict[str, Any]:
    """``drawn``: [value, low, high, shuffled] of some features, evenly spaced by value;
    ``drawn_features``: which they are."""
    known = [(feature, row) for feature, row in scored.items() if _pair(row, SHUFFLED)]
    known.sort(key=lambda pair: pair[1].own.value or 0.0)
    places = np.linspace(0, len(known) - 1, min(_DRAWN, len(known))).round().astype(int).tolist()
    lines, features = [], []
    for feature, row in (known[place] for place in places):
        line = [row.own.value, row.own.low, row.own.high, row.baselines[SHUFFLED].value]
        if all(each is not None and math.isfinite(each) for each in line):
            lines.append([float(each) for each in line if each is not None])
            features.append(feature)
    return {"drawn": lines, "drawn_features": features}


def _by_name(parts: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The mean over features of each stratum or tier, with Student's interval."""
    piles: dict[str, list[float]] = {}
    for part in parts:
        for name, value in part.items():
            piles.setdefault(name, []).append(value)
    means: dict[str, Any] = {}
    for name in sorted(piles, key=lambda name: (len(name), name)):
        mean, low, high = mean_interval(piles[name])
        means[name] = {"value": mean, "low": low, "high": high, "n": len(piles[name])}
    return means


def _above(own: Floats, other: Floats | None) -> dict[str, Any] | None:
    """P(score > a score of the other SAE), ties 1/2 (Mann and Whitney): an AUROC over features."""
    if other is None:
        return None
    return area_under_roc(own, other).as_dict()


def _cost(rows: Sequence[Scored], price: PriceSpec | None) -> dict[str, Any]:
    """Means per feature, of the score itself and of all its baselines together."""

    def of(which: str) -> dict[str, float]:
        usages = [getattr(row, which) for row in rows]
        names = ("prompt_tokens", "cached_tokens", "completion_tokens", "calls", "seconds")
        means = {name: float(np.mean([getattr(u, name) for u in usages])) for name in names}
        if price is not None:
            tokens = (means[name] for name in names[:3])
            means["cost"] = cost_of(price, *tokens)  # type: ignore[arg-type]
        return means

    return {"own": of("usage"), "baselines": of("baseline_usage")}
