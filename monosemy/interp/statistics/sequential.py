"""Scoring in steps: looking at the interval several times, and stopping when it is narrow enough.

A 95 % interval that is looked at K times, and kept when it pleases, covers less than 95 %.
Repeated confidence intervals (C. Jennison and B. W. Turnbull, JRSS B 51 (1989) 305) use a larger
critical value, such that all K cover at once with 95 %; hence so does the one at which scoring
stops, whatever the reason to stop.  The looks are declared beforehand and equally spaced; the
critical values are Pocock's (Biometrika 64 (1977) 191).  numpy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist

import numpy as np

MOST_LOOKS = 1000
NODES = 96


@lru_cache(maxsize=256)
def critical_value(looks: int, level: float = 0.95) -> float:
    """c with P(|Z_k| <= c for k = 1..looks) = ``level``, Z_k = S_k / sqrt(k), S a random walk.

    By recursive integration (P. Armitage, C. K. McPherson and B. C. Rowe, JRSS A 132 (1969) 235)
    and bisection, to 1e-6.  Raises ``ValueError`` unless 1 <= looks <= 1000 and 0 < level < 1.
    """
    if not 1 <= looks <= MOST_LOOKS or not 0 < level < 1:
        raise ValueError(f"{looks} looks at level {level}")
    # One look is the least; the union bound, level split evenly, is the most.
    low = NormalDist().inv_cdf((1 + level) / 2)
    high = -NormalDist().inv_cdf((1 - level) / (2 * looks))
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if stays_within(middle, looks) < level else (low, middle)
    return (low + high) / 2


def stays_within(bound: float, looks: int) -> float:
    """P(|Z_k| <= bound for k = 1..looks), Z_k = S_k / sqrt(k), S a walk of normal steps."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    at_M = nodes * bound
    density_M = np.exp(-(at_M**2) / 2) / math.sqrt(2 * math.pi)
    for k in range(2, looks + 1):
        mass_M = density_M * weights * bound * math.sqrt(k - 1)
        next_M = nodes * bound * math.sqrt(k)
        steps_MM = np.exp(-((next_M[:, None] - at_M[None, :]) ** 2) / 2) / math.sqrt(2 * math.pi)
        at_M, density_M = next_M, steps_MM @ mass_M
    return float(density_M @ weights) * bound * math.sqrt(looks)


@dataclass(frozen=True)
class Looks:
    """How often a score may be looked at, and how narrow is narrow enough."""

    count: int
    """Looks declared; the last is when all examples are judged."""
    half_width: float
    """Scoring stops at the first look whose interval is at most twice this wide."""
    level: float = 0.95

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_LOOKS:
            raise ValueError(f"{self.count} looks")
        if not self.half_width > 0:
            raise ValueError(f"a half-width of {self.half_width}")

    @property
    def z(self) -> float:
        """The critical value of the interval at every look, the last one too."""
        return critical_value(self.count, self.level)

    def chunks(self, n: int) -> list[range]:
        """``n`` items cut in ``count`` chunks in order, whose sizes differ by one at most.

        Chunk k is what is judged before look k.  Of fewer items than looks, some chunks are empty,
        so that chunks of several tiers can be put together; the critical value still holds.
        """
        ends = [n * k // self.count for k in range(self.count + 1)]
        return [range(start, end) for start, end in pairwise(ends)]

    def enough(self, low: float, high: float) -> bool:
        """Whether an interval, made with ``z``, is narrow enough to stop."""
        return (high - low) / 2 <= self.half_width
