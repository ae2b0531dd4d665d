"""How a ranking of heads agrees with a known circuit, and rankings with one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from monosemy.interp.statistics.ranks import auroc
from monosemy.specs.rest.circuits import WithInterval

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

RESAMPLED = 1000
"""Times that an interval is resampled."""


def roc_auc(scores: Floats, member: Booleans) -> float:
    """How often a member scores higher than another; equal ones count half.  nan without both."""
    if member.all() or not member.any():
        return float("nan")
    return auroc(scores[member], scores[~member])


def average_precision(scores: Floats, member: Booleans) -> float:
    """Mean precision at each member, heads of one score taken together.  nan without members."""
    if not member.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = member[order].cumsum()
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    gained = np.diff(hits[ends], prepend=0)
    return float((gained * hits[ends] / (ends + 1)).sum() / member.sum())


def precision_recall_f1(chosen: Booleans, member: Booleans) -> tuple[float, float, float]:
    """0 where nothing is chosen."""
    both = int((chosen & member).sum())
    precision = both / max(int(chosen.sum()), 1)
    recall = both / max(int(member.sum()), 1)
    return precision, recall, 2 * both / max(int(chosen.sum() + member.sum()), 1)


def jaccard(a: set[int], b: set[int]) -> float:
    return len(a & b) / max(len(a | b), 1)


def top(scores: Floats, n: int) -> list[int]:
    """The n highest, the highest first; of equal ones the earlier."""
    return [int(place) for place in np.argsort(-scores, kind="stable")[:n]]


def interval(values: Sequence[float] | Floats, level: float = 0.95) -> tuple[float, float]:
    """The middle share of resampled values, nan left out."""
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def over_heads(
    measure: Callable[[Floats, Booleans], float], scores: Floats, member: Booleans, seed: int = 0
) -> WithInterval:
    """A measure of a ranking with its interval: members and others resampled, each apart."""
    rng = np.random.default_rng(seed)
    inside, outside = np.flatnonzero(member), np.flatnonzero(~member)
    values = []
    for _ in range(RESAMPLED):
        drawn = np.concatenate([rng.choice(side, len(side)) for side in (inside, outside)])
        values.append(measure(scores[drawn], member[drawn]))
    low, high = interval(values)
    return WithInterval(value=measure(scores, member), low=low, high=high)


def between(measure: Callable[[int, int], float], count: int, seed: int = 0) -> WithInterval | None:
    """The mean of a measure over all pairs of ``count`` runs, runs resampled; None for one run."""
    if count < 2:
        return None
    table = np.full((count, count), np.nan)
    for a, b in combinations(range(count), 2):
        table[a, b] = table[b, a] = measure(a, b)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(RESAMPLED):
        drawn = rng.integers(count, size=count)
        part = table[np.ix_(drawn, drawn)]
        known = part[~np.isnan(part)]  # a run is not compared with itself
        if len(known):
            values.append(float(known.mean()))
    low, high = interval(values)
    return WithInterval(value=float(np.nanmean(table)), low=low, high=high)
