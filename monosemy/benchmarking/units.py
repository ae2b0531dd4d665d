"""Figures made of units: a sum over a sum, its interval by families, differences in pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from monosemy.interp.statistics.bootstrap import Bootstrapped, count_bootstrap
from monosemy.specs.rest.benchmarks import BenchmarkMetric, BenchmarkUnit, Better

RESAMPLES = 2000
SEED = 0
"""Of resamples: one set for all, so that equal results have equal intervals."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Column:
    """One metric of one subject, by unit and seed."""

    metric: str
    subject: str
    parts_SU: Array
    """``[seeds, units]``, float; NaN for a unit that it has not.  One row where seeds change
    nothing."""
    weights_SU: Array | None = None
    """Denominators, as many; None for a mean over units."""
    better: Better = "higher"

    @property
    def mean_parts_U(self) -> Array:
        """Over seeds; NaN for a unit that some seed has not."""
        return np.asarray(self.parts_SU, np.float64).mean(0)

    @property
    def mean_weights_U(self) -> Array:
        if self.weights_SU is None:
            return np.ones(np.shape(self.parts_SU)[1])
        return np.asarray(self.weights_SU, np.float64).mean(0)

    @property
    def seed_sd(self) -> float | None:
        """Of the figure between seeds; None with one."""
        parts_SU = np.asarray(self.parts_SU, np.float64)
        weights_SU = np.ones_like(parts_SU) if self.weights_SU is None else self.weights_SU
        values = [_ratio(*row) for row in zip(parts_SU, weights_SU, strict=True)]
        return float(np.std(values, ddof=1)) if len(values) > 1 else None


def metric_of(column: Column, units: Sequence[BenchmarkUnit]) -> BenchmarkMetric:
    """A column with its interval, as results have it."""
    parts_U, weights_U = column.mean_parts_U, column.mean_weights_U
    families = [unit.family for unit in units]
    of = ratio_interval(parts_U, weights_U, families)
    sd = column.seed_sd
    return BenchmarkMetric(
        metric=column.metric,
        subject=column.subject,
        better=column.better,
        value=of.value,
        low=_finite(of.low),
        high=_finite(of.high),
        n=int(there(parts_U, weights_U).sum()),
        families=of.n_clusters,
        seed_sd=None if sd is None or not math.isfinite(sd) else sd,
        parts=[_finite(float(each)) for each in parts_U],
        weights=None if column.weights_SU is None else [float(each) for each in weights_U],
    )


def ratio_interval(parts_U: Array, weights_U: Array, families: Sequence[str]) -> Bootstrapped:
    """The sum of parts over the sum of weights, families resampled whole.

    A unit whose part is NaN counts in neither sum.  The value is None, and so are its ends, where
    no unit is left; with one family the ends are infinite.
    """
    there_U = there(parts_U, weights_U)
    sums_FC = by_family(families, [np.where(there_U, parts_U, 0), np.where(there_U, weights_U, 0)])
    return _interval(sums_FC[sums_FC[:, 1] != 0], lambda sums_RC: sums_RC[:, 0] / sums_RC[:, 1])


def paired_difference(
    a: tuple[Array, Array], b: tuple[Array, Array], families: Sequence[str]
) -> Bootstrapped:
    """``a`` less ``b``, each (parts, weights) over the same units, resampled together; units that
    one of them has not are left out of both."""
    both_U = there(*a) & there(*b)
    sums_FC = by_family(families, [np.where(both_U, each, 0) for each in (*a, *b)])
    with_any_FC = sums_FC[(sums_FC[:, 1] != 0) & (sums_FC[:, 3] != 0)]
    return _interval(
        with_any_FC, lambda sums_RC: sums_RC[:, 0] / sums_RC[:, 1] - sums_RC[:, 2] / sums_RC[:, 3]
    )


def _interval(sums_FC: Array, statistic: Callable[[Array], Array]) -> Bootstrapped:
    if not len(sums_FC):
        return Bootstrapped(None, -math.inf, math.inf, 0, 0)

    def of_counts(counts_RF: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(statistic(counts_RF @ sums_FC))

    return count_bootstrap(of_counts, len(sums_FC), resamples=RESAMPLES, seed=SEED)


def by_family(families: Sequence[str], columns: Sequence[Array]) -> Array:
    """``[families, columns]``: sums over the units of each."""
    names = {name: place for place, name in enumerate(dict.fromkeys(families))}
    sums_FC = np.zeros((len(names), len(columns)))
    np.add.at(sums_FC, [names[each] for each in families], np.stack(columns, 1))
    return sums_FC


def there(parts_U: Array, weights_U: Array) -> Array:
    """Which units have both, of arrays of one shape."""
    return np.isfinite(parts_U) & np.isfinite(weights_U)


def _ratio(parts_U: Array, weights_U: Array) -> float:
    there_U = there(parts_U, np.asarray(weights_U, np.float64))
    total = float(np.asarray(weights_U)[there_U].sum())
    return float(parts_U[there_U].sum()) / total if total else math.nan


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
