"""What the report on an SAE's scores comes to, in short."""

from __future__ import annotations

from monosemy.specs.described import Described

MOST_BESIDE = 3
"""SAEs or bases that the scores of one can be held against at a time."""


class ShareView(Described):
    """A share with its 95 % interval (Wilson's)."""

    value: float | None
    low: float
    high: float


class ToldApart(Described):
    """How many features a scorer tells apart from another feature's explanation."""

    scorer: str
    features: int
    """Features with a score and its shuffled baseline."""
    above: ShareView
    """Those whose interval lies above the baseline."""
    discoveries: int
    """Those that stand out at the false discovery rate (Benjamini and Hochberg)."""
    uncorrected: int
    """Those with a p-value of at most `rate`, looked at one by one."""
    rate: float
    """The false discovery rate."""


class ReportSummary(Described):
    """One entry for each scorer."""

    items: list[ToldApart]
    scored_features: int
    """Features with a score; of more than 5,000, so many evenly spread ones are looked at."""
