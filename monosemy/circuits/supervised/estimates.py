"""Figures of prompts with intervals, as results have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from monosemy.interp.statistics.bootstrap import Bootstrapped, count_bootstrap
from monosemy.specs.rest.tasks import Estimate

_WIDEST = 1e9
"""Ends of an interval that is not known."""

Array = npt.NDArray[Any]


class Estimates:
    """Intervals by prompt, all with the same number of resamples and the same seed."""

    def __init__(self, resamples: int, seed: int) -> None:
        self.resamples, self.seed = resamples, seed % 2**63

    def mean(self, values_N: Array, bounds: tuple[float, float] = (-_WIDEST, _WIDEST)) -> Estimate:
        """Of one value for each prompt."""
        column_N1 = np.asarray(values_N, np.float64)[:, None]
        return self.of(lambda means_RC: means_RC[:, 0], column_N1, bounds)

    def share(self, hits_N: Array) -> Estimate:
        """Of prompts for which something holds; without any it is not known."""
        if not len(hits_N):
            return Estimate(value=None, low=0.0, high=1.0, n=0)
        return self.mean(hits_N, (0.0, 1.0))

    def of(
        self,
        statistic: Callable[[Array], Array],
        columns_NC: Array,
        bounds: tuple[float, float] = (-_WIDEST, _WIDEST),
    ) -> Estimate:
        """Of a function of the means of columns: ``[R, C] -> [R]``."""

        def of_counts(counts_RN: Array) -> Array:
            means_RC = counts_RN @ columns_NC / counts_RN.sum(1, keepdims=True)
            with np.errstate(divide="ignore", invalid="ignore"):
                return statistic(means_RC)

        found = count_bootstrap(
            of_counts,
            len(columns_NC),
            bounds=bounds,
            resamples=self.resamples,
            seed=self.seed,
        )
        return estimate(found)


def estimate(found: Bootstrapped) -> Estimate:
    """A bootstrapped figure as results have it."""
    return Estimate(value=found.value, low=found.low, high=found.high, n=found.n_clusters)
