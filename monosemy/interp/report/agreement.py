"""Do scorers rank features alike?  Spearman's correlation of every two, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from monosemy.interp.report.table import Table
from monosemy.interp.statistics.correlation import RESAMPLES, spearman_interval

POINTS = 300
"""Features drawn in a scatter plot."""

_WORK = 4_000_000
"""Values resampled for one interval, at most."""
_FEWEST = 3


def agreement(table: Table, scorers: Sequence[str], seed: int = 0) -> list[dict[str, Any]]:
    """For every two scorers: ``value`` with ``low`` and ``high`` (bootstrap, features drawn whole),
    ``n`` features that both scored, some ``points`` [first, second] with their ``features``, and
    ``reason`` where there is no value."""
    results = []
    for first, second in combinations(scorers, 2):
        pairs = [
            (feature.feature, feature.scores[first].own.value, feature.scores[second].own.value)
            for feature in table
            if first in feature.scores and second in feature.scores
        ]
        known = [(f, x, y) for f, x, y in pairs if x is not None and y is not None]
        results.append({"first": first, "second": second, **_correlation(known, seed)})
    return results


def _correlation(known: Sequence[tuple[int, float, float]], seed: int) -> dict[str, Any]:
    n = len(known)
    if n < _FEWEST:
        few = f"{n} features have both scores"
        none: dict[str, Any] = {"value": None, "low": -1.0, "high": 1.0}
        return {**none, "n": n, "reason": few, "points": [], "features": []}
    features = [feature for feature, _, _ in known]
    first, second = np.array([x for _, x, _ in known]), np.array([y for _, _, y in known])
    resamples = int(np.clip(_WORK // n, 200, RESAMPLES))
    result = spearman_interval(first, second, features, seed, resamples=resamples)
    chosen = np.random.default_rng(seed).permutation(n)[:POINTS]
    return {
        "value": result.value,
        "low": result.low,
        "high": result.high,
        "n": n,
        "reason": None if result.value is not None else "all scores of one of them are equal",
        "points": np.stack([first[chosen], second[chosen]], axis=1).tolist(),
        "features": [features[place] for place in chosen.tolist()],
    }
