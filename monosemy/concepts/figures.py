"""Figures with their intervals, as results have them."""

from __future__ import annotations

from collections.abc import Sequence

from monosemy.interp.statistics.ranks import area_under_roc
from monosemy.interp.statistics.rates import newcombe_mean, rate_of
from monosemy.interp.statistics.student import mean_interval
from monosemy.specs.rest.concepts import Share


def share(outcomes: Sequence[bool]) -> Share:
    """Of true outcomes; Wilson's interval."""
    rate = rate_of(outcomes)
    return Share(value=rate.value, low=rate.low, high=rate.high, n=rate.n)


def area(targets: Sequence[float], retain: Sequence[float]) -> Share:
    """Under the ROC curve."""
    area = area_under_roc(targets, retain)
    n = len(targets) + len(retain)
    return Share(value=area.value, low=area.low, high=area.high, n=n)


def mean_cosine(values: Sequence[float]) -> Share:
    """Student's interval, within -1 and 1."""
    value, low, high = mean_interval(values)
    low, high = (-1.0 if low is None else low), (1.0 if high is None else high)
    return Share(value=value, low=max(-1.0, low), high=min(1.0, high), n=len(values))


def balanced_accuracy(found: Sequence[bool], rejected: Sequence[bool]) -> Share:
    """The mean of both classes' shares that are told right; no value where a class is empty."""
    rates = rate_of(found), rate_of(rejected)
    low, high = newcombe_mean(*rates)
    values = [rate.value for rate in rates if rate.value is not None]
    value = sum(values) / 2 if len(values) == 2 else None
    return Share(value=value, low=low, high=high, n=len(found) + len(rejected))
