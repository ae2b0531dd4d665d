"""Student's distribution, as far as intervals of few documents need it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np

EXACT_BELOW = 10
"""Degrees of freedom from which on an expansion is good to 0.01 %."""
_Z95 = NormalDist().inv_cdf(0.975)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


def student_critical(z: float, df: float) -> float:
    """Student's critical value with the tail that ``z`` has for the normal distribution.

    Below 10 degrees of freedom by bisection; else Cornish and Fisher's expansion (Abramowitz and
    Stegun 26.7.5), within 0.01 % for the usual levels.  Raises ``ValueError`` for df < 1.
    """
    if df < 1:
        raise ValueError(f"{df} degrees of freedom")
    if df < EXACT_BELOW:
        return math.copysign(_inverted(abs(z), df), z)
    square = z * z
    terms = (
        (square + 1) / 4,
        ((5 * square + 16) * square + 3) / 96,
        (((3 * square + 19) * square + 17) * square - 15) / 384,
        ((((79 * square + 776) * square + 1482) * square - 1920) * square - 945) / 92160,
    )
    return z * (1 + sum(term / df**power for power, term in enumerate(terms, 1)))


def within(t: float, df: float) -> float:
    """P(|T| <= t) for ``df`` >= 1 degrees of freedom: the integral of cos(a)^(df - 1), t = sqrt(df)
    tan(a), by Gauss and Legendre's rule."""
    angle = math.atan2(t, math.sqrt(df))
    scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)
    heights = np.cos((_NODES + 1) * angle / 2) ** (df - 1)
    return float(scale * angle * (_WEIGHTS @ heights))


@lru_cache(maxsize=4096)
def _inverted(z: float, df: float) -> float:
    wanted = 2 * NormalDist().cdf(z) - 1
    low, high = 0.0, max(z, 1.0)
    while within(high, df) < wanted and high < 1e12:
        low, high = high, 2 * high
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle, df) < wanted else (low, middle)
    return (low + high) / 2


def mean_interval(
    values: Sequence[float],
) -> tuple[float | None, float | None, float | None]:
    """Mean with Student's 95 % interval; without two values there is no interval."""
    if not len(values):
        return None, None, None
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None, None
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = student_critical(_Z95, len(values) - 1) * spread
    return mean, mean - half, mean + half
