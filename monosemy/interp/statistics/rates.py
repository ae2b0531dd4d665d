"""Intervals for rates and for what is made of them.  numpy only.

Sources: E. B. Wilson, JASA 22 (1927) 209; R. G. Newcombe, Statistics in Medicine 17 (1998) 873
(method 10, also known as MOVER); J. N. K. Rao and A. J. Scott, Biometrics 48 (1992) 577 for the
effective number of clustered observations; E. L. Korn and B. I. Graubard, Survey Methodology 24
(1998) 193 for allowing for how few they are.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np

from monosemy.interp.statistics.student import student_critical

Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Rate:
    """A share with its interval.  ``value`` is None where nothing was counted."""

    value: float | None
    low: float
    high: float
    n: int
    effective_n: float
    """``n`` over the design effect of clusters, less what few clusters say of that effect; equal to
    ``n`` for independent observations."""

    def as_dict(self) -> dict[str, float | int | None]:
        return asdict(self)


def wilson(successes: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval (low, high) of a binomial rate; (0, 1) for ``n`` = 0.

    ``n`` may be an effective number, hence not whole.  Raises ``ValueError`` unless
    0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes out of {n}")
    if n == 0:
        return 0.0, 1.0
    rate, square = successes / n, z * z
    centre = (rate + square / (2 * n)) / (1 + square / n)
    half = z / (1 + square / n) * math.sqrt(rate * (1 - rate) / n + square / (4 * n * n))
    # At the ends the exact bounds are 0 and 1; rounding must not leave a speck beyond the rate.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def effective_n(outcomes: Sequence[bool], clusters: Sequence[Hashable], z: float = Z95) -> float:
    """How many independent observations ``outcomes`` are worth, given the cluster each is from.

    Rao and Scott's n / deff, deff being the clustered over the binomial variance of the rate.
    What few clusters say of deff is uncertain; so, where it is above 1, Korn and Graubard's
    correction by the squared ratio of Student's critical values, here with the effective number's
    own degrees of freedom.  The result is kept between the worth of fully dependent clusters
    (Kish's n^2 / sum n_i^2) and ``n``; where all outcomes are equal, nothing shows how dependent
    they are and the lower end is taken.  Equals ``n`` when no two share a cluster.
    """
    if len(outcomes) != len(clusters):
        raise ValueError("one cluster per outcome is needed")
    n = len(outcomes)
    totals: dict[Hashable, list[int]] = {}
    for outcome, cluster in zip(outcomes, clusters, strict=True):
        entry = totals.setdefault(cluster, [0, 0])
        entry[0] += int(outcome)
        entry[1] += 1
    m = len(totals)
    if m == n:
        return float(n)
    hits_M, sizes_M = np.array(list(totals.values()), dtype=np.float64).T
    least = n**2 / float(sizes_M @ sizes_M)
    rate = float(hits_M.sum() / n)
    if m == 1 or rate in (0.0, 1.0):
        return least
    residuals_M = hits_M - rate * sizes_M
    clustered = m / (m - 1) * float(residuals_M @ residuals_M) / n**2
    design_effect = clustered / (rate * (1 - rate) / n)
    worth = n / max(design_effect, 1.0)
    if worth < n:
        few, many = max(2.0, worth - 1), max(2.0, n - 1)
        worth *= (student_critical(z, many) / student_critical(z, few)) ** 2
    return float(np.clip(worth, least, n))


def rate_of(
    outcomes: Sequence[bool], clusters: Sequence[Hashable] | None = None, z: float = Z95
) -> Rate:
    """The share of true outcomes with Wilson's interval, clusters (documents) accounted for."""
    n = len(outcomes)
    if n == 0:
        return Rate(None, 0.0, 1.0, 0, 0.0)
    worth = float(n) if clusters is None else effective_n(outcomes, clusters, z)
    rate = sum(map(bool, outcomes)) / n
    low, high = wilson(rate * worth, worth, z)
    return Rate(rate, low, high, n, worth)


def newcombe_difference(first: Rate, second: Rate) -> tuple[float, float]:
    """Newcombe's interval of first - second, two independent rates; (-1, 1) if one is empty."""
    if first.value is None or second.value is None:
        return -1.0, 1.0
    difference = first.value - second.value
    low = difference - math.hypot(first.value - first.low, second.high - second.value)
    high = difference + math.hypot(first.high - first.value, second.value - second.low)
    return max(-1.0, low), min(1.0, high)


def newcombe_mean(first: Rate, second: Rate) -> tuple[float, float]:
    """The same method for (first + second) / 2; (0, 1) if one is empty."""
    if first.value is None or second.value is None:
        return 0.0, 1.0
    mean = (first.value + second.value) / 2
    low = mean - math.hypot(first.value - first.low, second.value - second.low) / 2
    high = mean + math.hypot(first.high - first.value, second.high - second.value) / 2
    return max(0.0, low), min(1.0, high)


def worst_case(hits: int, positives: int, rejections: int, negatives: int) -> float | None:
    """Balanced accuracy where ``positives`` and ``negatives`` count failed judgements too, each
    taken as wrong: what the score cannot fall below, however they would have come out."""
    if not positives or not negatives:
        return None
    return (hits / positives + rejections / negatives) / 2


def chance_normalised(score: float | None, baseline: float | None) -> float | None:
    """(s - s_b) / (1 - s_b): 0 is as good as the baseline, 1 is perfect; None if undefined."""
    if score is None or baseline is None or baseline >= 1:
        return None
    return (score - baseline) / (1 - baseline)
