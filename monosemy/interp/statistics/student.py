"""Student's distribution, for means of few values and intervals of few documents."""

from __future__ import annotations

import math
from statistics import NormalDist

_INFINITE = 100_000
"""Degrees of freedom from which on t is normal to five digits."""


def student_critical(z: float, df: float) -> float:
    """Student's critical value with the tail that ``z`` has for the normal distribution.

    Exact for whole ``df``; between them Cornish and Fisher's expansion (Abramowitz and Stegun
    26.7.5), within 0.4 % at df = 4 and 0.01 % at 10, for the usual levels.  Raises ``ValueError``
    unless ``df`` is at least 1 and ``z`` between 0 and 8.
    """
    if not (df >= 1 and 0 <= z <= 8):
        raise ValueError(f"no critical value for z={z} and {df} degrees of freedom")
    if df >= _INFINITE:
        return z
    return _exact(z, int(df)) if df == int(df) else _expanded(z, df)


def t_within(t: float, df: int) -> float:
    """P(|T| <= t) for ``df`` degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(df))
    sine, squared = math.sin(angle), math.cos(angle) ** 2
    odd = df % 2
    term = math.cos(angle) if odd else 1.0
    total = term if df > 1 else 0.0
    for i in range(2 + odd, df - 1, 2):
        term *= squared * (i - 1) / i
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def _exact(z: float, df: int) -> float:
    wanted = 2 * NormalDist().cdf(z) - 1
    low, high = 0.0, max(z, 1.0)
    while t_within(high, df) < wanted and high < 1e16:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        if t_within(middle, df) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _expanded(z: float, df: float) -> float:
    square = z * z
    terms = (
        (square + 1) / 4,
        ((5 * square + 16) * square + 3) / 96,
        (((3 * square + 19) * square + 17) * square - 15) / 384,
        ((((79 * square + 776) * square + 1482) * square - 1920) * square - 945) / 92160,
    )
    return z * (1 + sum(term / df**power for power, term in enumerate(terms, 1)))
