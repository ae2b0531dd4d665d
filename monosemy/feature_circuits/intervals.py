"""Figures over pairs of prompts with their 95 % intervals.

Pairs of one prompt (other patches, other answers) are no new observations of it: whole prompts are
resampled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monosemy.feature_circuits.nodes import Floats
from monosemy.feature_circuits.pairs import PairGroup
from monosemy.interp.statistics.bootstrap import count_bootstrap
from monosemy.specs.rest.circuits import WithInterval


class OverPrompts:
    """Intervals over the P pairs of groups, in their order."""

    def __init__(self, groups: Sequence[PairGroup], seed: int) -> None:
        self.seed = abs(seed)
        prompts: dict[tuple[int, ...], int] = {}
        pairs = [pair for group in groups for pair in group.pairs]
        self.prompt_P = np.array([prompts.setdefault(p.clean, len(prompts)) for p in pairs])
        self.count = len(prompts)

    def mean(self, values_P: Floats) -> WithInterval:
        """The mean over pairs."""
        return self.ratio(values_P, np.ones(len(values_P)))

    def ratio(self, upper_P: Floats, lower_P: Floats, least: float = 0.0) -> WithInterval:
        """The sum of ``upper_P`` over that of ``lower_P``; resamples in which the mean of the
        latter is below ``least`` are left out."""
        upper_C, lower_C, pairs_C = (
            np.bincount(self.prompt_P, values, self.count)
            for values in (upper_P, lower_P, np.ones(len(lower_P)))
        )

        def of_resamples(counts_RC: Floats) -> Floats:
            below_R = counts_RC @ lower_C
            known_R = np.abs(below_R) > least * (counts_RC @ pairs_C)
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.where(known_R, counts_RC @ upper_C / below_R, np.nan)

        value = float(upper_P.sum() / lower_P.sum())
        made = count_bootstrap(of_resamples, self.count, bounds=(value, value), seed=self.seed)
        return WithInterval(value=value, low=made.low, high=made.high)
