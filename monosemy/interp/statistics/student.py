"""Student's distribution, as far as intervals of few documents need it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

_Z95 = NormalDist().inv_cdf(0.975)


def student_critical(z: float, df: float) -> float:
    """Student's critical value with the tail that ``z`` has for the normal distribution.

    Raises ``ValueError`` for df < 1.
    """
    from scipy.special import ndtr, stdtrit  # not before it is needed: the API starts without

    if df < 1:
        raise ValueError(f"{df} degrees of freedom")
    # From the lower tail, which keeps its digits.
    return math.copysign(-float(stdtrit(df, ndtr(-abs(z)))), z)


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
