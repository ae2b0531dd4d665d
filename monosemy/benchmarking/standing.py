"""SAEs beside each other by one metric: which can be told apart.  numpy only.

All pairs share one set of resamples, families drawn whole, and one critical value: the 95 % point
of the largest difference in units of its own standard deviation.  So the intervals of all pairs
hold together with 95 %, whatever the correlation between SAEs (T. Hothorn, F. Bretz and P.
Westfall, Biometrical Journal 50 (2008) 346, section 3, with the bootstrap of ``units`` in place of
their normal distribution).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monosemy.benchmarking.units import RESAMPLES, SEED, Array, by_family, there
from monosemy.interp.statistics.bootstrap import count_draws
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.statistics.student import student_critical
from monosemy.specs.rest.benchmarks import BenchmarkDifference, Better


@dataclass(frozen=True)
class Standing:
    """N SAEs by one metric."""

    values_N: Array
    """Over the units that all have; NaN where there are none."""
    wide_NN: Array
    """Half the width of the interval of each difference; infinite with fewer than two families."""
    units: int
    families: int

    @property
    def apart_NN(self) -> Array:
        """Which pairs can be told apart."""
        return np.abs(self._less_NN) > self.wide_NN

    @property
    def _less_NN(self) -> Array:
        return self.values_N[:, None] - self.values_N[None, :]

    def difference(self, a: int, b: int) -> BenchmarkDifference | None:
        """``a`` less ``b``; None where they share no unit."""
        value, wide = float(self._less_NN[a, b]), float(self.wide_NN[a, b])
        if not math.isfinite(value):
            return None
        known = math.isfinite(wide)
        return BenchmarkDifference(
            value=value,
            low=value - wide if known else None,
            high=value + wide if known else None,
            apart=bool(self.apart_NN[a, b]),
        )

    def ranks(self, better: Better) -> list[tuple[int, int] | None]:
        """Of each the best and the worst rank that cannot be excluded; None where neither end is
        better, and of one without a value."""
        if better == "neither":
            return [None] * len(self.values_N)
        known_N = np.isfinite(self.values_N)
        more_NN = self.apart_NN & (self._less_NN > 0)
        wins_NN = more_NN if better == "higher" else more_NN.T
        return [
            (1 + int(wins_NN[:, at].sum()), int(known_N.sum()) - int(wins_NN[at].sum()))
            if known_N[at]
            else None
            for at in range(len(known_N))
        ]

    @property
    def pairs(self) -> tuple[int, int]:
        """(how many there are, how many of them can be told apart)."""
        n = int(np.isfinite(self.values_N).sum())
        return n * (n - 1) // 2, int(self.apart_NN.sum()) // 2


def standing(parts_NU: Array, weights_NU: Array, families: Sequence[str]) -> Standing:
    """Of sums over units ``[N, U]``, each a value times a weight; units that one lacks (NaN) are
    left out for all."""
    n = len(parts_NU)
    kept_U = np.logical_and.reduce(there(parts_NU, weights_NU), axis=0)
    chosen = [name for name, kept in zip(families, kept_U, strict=True) if kept]
    wide_NN = np.full((n, n), math.inf)
    if not chosen:
        return Standing(np.full(n, math.nan), wide_NN, 0, 0)
    sums_FC = by_family(chosen, [*parts_NU[:, kept_U], *weights_NU[:, kept_U]])
    values_N = _ratios(sums_FC.sum(0)[None], n)[0]
    known = np.flatnonzero(np.isfinite(values_N))
    if len(sums_FC) > 1 and len(known) > 1:
        draws = count_draws(len(sums_FC), resamples=RESAMPLES, seed=SEED)
        values_RN = np.concatenate([_ratios(counts_RF @ sums_FC, n) for counts_RF in draws])
        wide_NN[np.ix_(known, known)] = _widths(values_RN[:, known] - values_N[known], len(sums_FC))
    return Standing(values_N, wide_NN, int(kept_U.sum()), len(sums_FC))


def _ratios(sums_RC: Array, n: int) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums_RC[:, :n] / sums_RC[:, n:])


def _widths(centred_RN: Array, families: int) -> Array:
    """``[N, N]``; a resample in which some SAE has no value counts for no pair."""
    centred_RN = centred_RN[np.isfinite(centred_RN).all(1)]
    n = centred_RN.shape[1]
    if len(centred_RN) < 2:
        return np.full((n, n), math.inf)
    deviation_NN, largest_R = np.zeros((n, n)), np.zeros(len(centred_RN))
    for at in range(n):
        less_RN = centred_RN[:, at : at + 1] - centred_RN
        deviation_NN[at] = less_RN.std(0, ddof=1)
        some_N = deviation_NN[at] > 0
        if some_N.any():
            in_units_RN = np.abs(less_RN[:, some_N]) / deviation_NN[at, some_N]
            largest_R = np.maximum(largest_R, in_units_RN.max(1))
    # A deviation that F families give is too small by the root, and known badly by few.
    stretch = math.sqrt(families / (families - 1)) * student_critical(Z95, families - 1) / Z95
    return np.asarray(np.quantile(largest_R, 0.95) * stretch * deviation_NN)
