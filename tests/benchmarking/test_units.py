"""Figures of units, against what can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from monosemy.benchmarking.units import Column, metric_of, paired_difference, ratio_interval
from monosemy.specs.rest.benchmarks import BenchmarkUnit


def _units(families: str) -> list[BenchmarkUnit]:
    return [BenchmarkUnit(name=str(place), family=each) for place, each in enumerate(families)]


def test_a_figure_is_a_sum_over_a_sum_and_missing_units_count_in_neither() -> None:
    parts, weights = np.array([[1.0, 2.0, np.nan, 3.0]]), np.array([[2.0, 2.0, 9.0, 4.0]])
    metric = metric_of(Column("ev", "sae", parts, weights), _units("abcd"))
    assert metric.value == pytest.approx(6 / 8)
    assert (metric.n, metric.families) == (3, 3)
    assert metric.parts == [1.0, 2.0, None, 3.0] and metric.seed_sd is None
    assert metric.low is not None and metric.high is not None
    assert metric.low <= 0.75 <= metric.high


def test_seeds_are_averaged_and_their_spread_is_said() -> None:
    metric = metric_of(Column("auc", "sae", np.array([[0.5, 0.7], [0.7, 0.9]])), _units("ab"))
    assert metric.value == pytest.approx(0.7)
    assert metric.seed_sd == pytest.approx(np.std([0.6, 0.8], ddof=1))


def test_one_family_has_no_interval_and_no_unit_no_value() -> None:
    one = metric_of(Column("auc", "sae", np.array([[0.5, 0.7]])), _units("aa"))
    assert (one.value, one.low, one.high, one.families) == (pytest.approx(0.6), None, None, 1)
    none = metric_of(Column("auc", "sae", np.array([[np.nan]])), _units("a"))
    assert (none.value, none.low, none.high, none.n) == (None, None, None, 0)


def test_families_are_resampled_whole() -> None:
    """Twenty copies of one unit are one observation, not twenty."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=12)
    alone = ratio_interval(values, np.ones(12), [str(each) for each in range(12)])
    copied = ratio_interval(
        np.repeat(values, 20), np.ones(240), [str(each) for each in range(12) for _ in range(20)]
    )
    assert copied.n_clusters == 12
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        families = np.repeat(np.arange(30), 3)
        values = rng.normal(size=30)[families] + rng.normal(size=90)
        of = ratio_interval(values, np.ones(90), [str(each) for each in families])
        covered += of.low <= 0 <= of.high
    assert 181 <= covered <= 199  # binomial(200, .95): outside with p < .003


def test_differences_are_of_units_that_both_have_and_pairs_share_their_noise() -> None:
    rng = np.random.default_rng(2)
    shared = rng.normal(scale=10, size=40)
    a, b = shared + 0.5 + rng.normal(scale=0.1, size=40), shared + rng.normal(scale=0.1, size=40)
    a[3], b[7] = np.nan, np.nan
    ones, names = np.ones(40), [str(each) for each in range(40)]
    of = paired_difference((a, ones), (b, ones), names)
    assert of.n_clusters == 38
    assert of.value == pytest.approx(np.nanmean(a - b))
    assert 0.3 < of.low < 0.5 < of.high < 0.7
    nothing = paired_difference((a, ones), (np.full(40, np.nan), ones), names)
    assert nothing.value is None and math.isinf(nothing.high)
