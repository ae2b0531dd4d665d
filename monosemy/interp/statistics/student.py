"""Student's t, for means of few values."""

from __future__ import annotations

import math
from statistics import NormalDist

_INFINITE = 100_000
"""Degrees of freedom from which on t is normal to five digits."""


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


def t_critical(df: int, z: float) -> float:
    """The t whose two-sided coverage is that of the normal critical value ``z``.

    ``ValueError`` unless ``df`` is at least 1 and ``z`` between 0 and 8.
    """
    if df < 1 or not 0 <= z <= 8:
        raise ValueError(f"no critical value for df={df}, z={z}")
    if df >= _INFINITE:
        return z
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
