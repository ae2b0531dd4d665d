"""Correlation of real with simulated activations, with intervals by cluster bootstrap.

Sources: S. Bills et al., "Language models can explain neurons in language models" (2023) and its
published code for the three scores (correlation, R^2, absolute deviation explained) and for linear
calibration; T. Hesterberg, The American Statistician 69 (2015) 371, for percentile intervals that
are widened for few clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from monosemy.interp.statistics.ranks import midranks
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.statistics.student import student_critical

RESAMPLES = 1000
_MOST_AT_ONCE = 4_000_000
"""Numbers held at once while ranks are resampled."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Correlation:
    """A correlation with its interval.  ``value`` is None where ``reason`` says why."""

    value: float | None
    low: float
    high: float
    n: int
    """Pairs of numbers."""
    clusters: int
    reason: str | None = None

    def as_dict(self) -> dict[str, float | int | str | None]:
        return asdict(self)


@dataclass(frozen=True)
class Line:
    """real = ``slope`` * simulated + ``intercept``."""

    slope: float
    intercept: float

    def __call__(self, simulated: npt.ArrayLike) -> Floats:
        return self.slope * np.asarray(simulated, dtype=np.float64) + self.intercept


def undefined(real: npt.ArrayLike, simulated: npt.ArrayLike) -> str | None:
    """Why two arrays ``[n]`` have no correlation, or None.  Raises ``ValueError`` for unequal
    lengths and for numbers that are not finite."""
    x_N, y_N = _pair(real, simulated)
    if len(x_N) < 2:
        return "there are fewer than two tokens"
    constant = [name for name, a_N in (("real", x_N), ("simulated", y_N)) if a_N.min() == a_N.max()]
    return f"the {' and the '.join(constant)} activations are constant" if constant else None


def pearson(real: npt.ArrayLike, simulated: npt.ArrayLike) -> float | None:
    """Pearson's correlation of two arrays ``[n]``; None where one is constant."""
    if undefined(real, simulated):
        return None
    x_N, y_N = _pair(real, simulated)
    x_N, y_N = x_N - x_N.mean(), y_N - y_N.mean()
    value = float(x_N @ y_N) / math.sqrt(float(x_N @ x_N) * float(y_N @ y_N))
    return min(1.0, max(-1.0, value))


def spearman(real: npt.ArrayLike, simulated: npt.ArrayLike) -> float | None:
    """Pearson's correlation of the ranks, equal values sharing their mean rank."""
    x_N, y_N = _pair(real, simulated)
    return pearson(midranks(x_N), midranks(y_N))


def r_squared(real: npt.ArrayLike, simulated: npt.ArrayLike) -> float | None:
    """1 - mean((real - simulated)^2) / mean(real^2), as OpenAI's scores have it: against zero, not
    against the mean.  None where nothing is real."""
    x_N, y_N = _pair(real, simulated)
    whole = float(x_N @ x_N)
    return 1 - float((x_N - y_N) @ (x_N - y_N)) / whole if whole else None


def deviation_explained(real: npt.ArrayLike, simulated: npt.ArrayLike) -> float | None:
    """1 - mean|real - simulated| / mean|real|.  None where nothing is real."""
    x_N, y_N = _pair(real, simulated)
    whole = float(np.abs(x_N).sum())
    return 1 - float(np.abs(x_N - y_N).sum()) / whole if whole else None


def linear_calibration(real: npt.ArrayLike, simulated: npt.ArrayLike) -> Line:
    """Least squares of real on simulated.  A constant simulation carries no information: slope 0.

    A positive slope leaves correlations as they are and changes R^2.
    """
    x_N, y_N = _pair(real, simulated)
    if not len(x_N):
        return Line(0.0, 0.0)
    return _line(np.array([len(x_N), x_N.sum(), y_N.sum(), x_N @ x_N, y_N @ y_N, x_N @ y_N]))


def calibrated_r_squared(
    real: npt.ArrayLike, simulated: npt.ArrayLike, clusters: Sequence[Hashable]
) -> float | None:
    """R^2 after linear calibration, each cluster by the line of all the others.

    None for fewer than two clusters, or where nothing is real.
    """
    x_N, y_N = _pair(real, simulated)
    label_N, m = _labels(clusters, len(x_N))
    if m < 2:
        return None
    sums_M6 = _cluster_sums(x_N, y_N, label_N, m)
    lines = [_line(rest_6) for rest_6 in sums_M6.sum(axis=0) - sums_M6]
    slope_M = np.array([line.slope for line in lines])
    intercept_M = np.array([line.intercept for line in lines])
    return r_squared(x_N, slope_M[label_N] * y_N + intercept_M[label_N])


def pearson_interval(
    real: npt.ArrayLike,
    simulated: npt.ArrayLike,
    clusters: Sequence[Hashable],
    seed: int = 0,
    z: float = Z95,
    resamples: int = RESAMPLES,
) -> Correlation:
    """Pearson's correlation of two arrays ``[n]`` with a percentile interval, whole clusters
    resampled; ``clusters`` names the one of each pair.  Costs O(n + resamples * clusters).

    Raises ``ValueError`` for unequal lengths.
    """
    x_N, y_N = _pair(real, simulated)
    label_N, m = _labels(clusters, len(x_N))

    def resample(weights_BM: Floats) -> Floats:
        # Centred, since sums of squares of far-off numbers lose their digits.
        sums_M6 = _cluster_sums(x_N - x_N.mean(), y_N - y_N.mean(), label_N, m)
        return _pearson_of_sums(weights_BM @ sums_M6)

    return _with_interval(pearson, x_N, y_N, m, resample, seed, z, resamples)


def spearman_interval(
    real: npt.ArrayLike,
    simulated: npt.ArrayLike,
    clusters: Sequence[Hashable],
    seed: int = 0,
    z: float = Z95,
    resamples: int = RESAMPLES,
) -> Correlation:
    """The same for Spearman's; every resample is ranked again, so this costs O(n * resamples)."""
    x_N, y_N = _pair(real, simulated)
    label_N, m = _labels(clusters, len(x_N))

    def resample(weights_BM: Floats) -> Floats:
        step = max(1, _MOST_AT_ONCE // len(x_N))
        parts = []
        for first in range(0, len(weights_BM), step):
            weights_BN = weights_BM[first : first + step, label_N]
            rx_BN, ry_BN = _weighted_ranks(x_N, weights_BN), _weighted_ranks(y_N, weights_BN)
            products = (
                np.ones_like(rx_BN),
                rx_BN,
                ry_BN,
                rx_BN * rx_BN,
                ry_BN * ry_BN,
                rx_BN * ry_BN,
            )
            sums_B6 = np.stack([(weights_BN * each).sum(axis=1) for each in products], axis=1)
            parts.append(_pearson_of_sums(sums_B6))
        return np.concatenate(parts)

    return _with_interval(spearman, x_N, y_N, m, resample, seed, z, resamples)


# -------------------------------------------------------------------- parts
def _with_interval(
    measure: Callable[[Floats, Floats], float | None],
    x_N: Floats,
    y_N: Floats,
    m: int,
    resample: Callable[[Floats], Floats],
    seed: int,
    z: float,
    resamples: int,
) -> Correlation:
    if reason := undefined(x_N, y_N):
        return Correlation(None, -1.0, 1.0, len(x_N), m, reason)
    value = measure(x_N, y_N)
    assert value is not None, "neither array is constant"
    if m < 2:
        return Correlation(value, -1.0, 1.0, len(x_N), m)
    weights_BM = np.random.default_rng(seed).multinomial(m, np.full(m, 1 / m), size=resamples)
    values_B = resample(weights_BM.astype(np.float64))
    values_B = values_B[np.isfinite(values_B)]
    # A resample without any activation has no correlation; too many of them, and the rest misleads.
    if 2 * len(values_B) < resamples:
        return Correlation(value, -1.0, 1.0, len(x_N), m)
    tail = NormalDist().cdf(-math.sqrt(m / (m - 1)) * student_critical(z, m - 1))
    low, high = np.quantile(values_B, [tail, 1 - tail]).tolist()
    return Correlation(value, min(low, value), max(high, value), len(x_N), m)


def _pair(real: npt.ArrayLike, simulated: npt.ArrayLike) -> tuple[Floats, Floats]:
    x_N, y_N = np.asarray(real, dtype=np.float64), np.asarray(simulated, dtype=np.float64)
    if x_N.ndim != 1 or x_N.shape != y_N.shape:
        raise ValueError(f"two arrays of equal length are needed, not {x_N.shape}, {y_N.shape}")
    if not (np.isfinite(x_N).all() and np.isfinite(y_N).all()):
        raise ValueError("all activations must be finite")
    return x_N, y_N


def _labels(clusters: Sequence[Hashable], n: int) -> tuple[npt.NDArray[np.int64], int]:
    """Clusters numbered from 0, ``[n]``, and how many there are."""
    if len(clusters) != n:
        raise ValueError("one cluster per pair is needed")
    numbers: dict[Hashable, int] = {}
    labels = [numbers.setdefault(cluster, len(numbers)) for cluster in clusters]
    return np.array(labels, dtype=np.int64), len(numbers)


def _cluster_sums(x_N: Floats, y_N: Floats, label_N: npt.NDArray[np.int64], m: int) -> Floats:
    """Sums of 1, x, y, xx, yy, xy by cluster, ``[m, 6]``."""
    products = (np.ones_like(x_N), x_N, y_N, x_N * x_N, y_N * y_N, x_N * y_N)
    return np.stack([np.bincount(label_N, each, minlength=m) for each in products], axis=1)


def _pearson_of_sums(sums_B6: Floats) -> Floats:
    """``[B]``; NaN where one side is constant."""
    n_B, x_B, y_B, xx_B, yy_B, xy_B = sums_B6.T
    vx_B, vy_B = n_B * xx_B - x_B**2, n_B * yy_B - y_B**2
    # What is left of a constant after rounding is no variance.
    flat_B = (vx_B <= 1e-10 * n_B * xx_B) | (vy_B <= 1e-10 * n_B * yy_B)
    product_B = np.where(flat_B, 1.0, vx_B * vy_B)
    r_B = np.clip((n_B * xy_B - x_B * y_B) / np.sqrt(product_B), -1.0, 1.0)
    return np.where(flat_B, np.nan, r_B)


def _weighted_ranks(values_N: Floats, weights_BN: Floats) -> Floats:
    """Mean ranks in samples where value i occurs ``weights[b, i]`` times, ``[B, N]``."""
    unique_K, inverse_N = np.unique(values_N, return_inverse=True)
    order_N = np.argsort(inverse_N, kind="stable")
    starts_K = np.searchsorted(inverse_N[order_N], np.arange(len(unique_K)))
    counts_BK = np.add.reduceat(weights_BN[:, order_N], starts_K, axis=1)
    ranks_BK = np.cumsum(counts_BK, axis=1) - (counts_BK - 1) / 2
    return np.asarray(ranks_BK[:, inverse_N], dtype=np.float64)


def _line(sums_6: Floats) -> Line:
    n, x, y, _, yy, xy = sums_6.tolist()
    variance = n * yy - y * y
    if variance <= 1e-12 * n * yy:
        return Line(0.0, x / n if n else 0.0)
    slope = (n * xy - x * y) / variance
    return Line(slope, (x - slope * y) / n)
