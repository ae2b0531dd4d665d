"""Which SAEs can be told apart: by hand, at the nominal rate, with power."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from monosemy.benchmarking.standing import Standing, standing

FAMILIES = 30


def of_means(values_NU: np.ndarray, families: list[str] | None = None) -> Standing:
    names = families or [f"f{at}" for at in range(values_NU.shape[1])]
    return standing(values_NU, np.ones_like(values_NU), names)


def test_nothing_is_told_apart_where_nothing_differs() -> None:
    """Six SAEs of one distribution, correlated by the difficulty of families: in at most 5 % of
    worlds is any of their 15 pairs told apart; bounds of 200 draws at 1 in 1,000."""
    rng = np.random.default_rng(7)
    wrong = 0
    for _ in range(200):
        difficulty_U = rng.normal(0, 3, FAMILIES)
        values_NU = difficulty_U + rng.standard_t(5, (6, FAMILIES))
        wrong += of_means(values_NU).pairs[1] > 0
    assert wrong <= binom.ppf(0.999, 200, 0.05)
    assert wrong > 0, "an interval that is never wrong is too wide to tell anything"


def test_a_difference_is_found_though_families_differ_more() -> None:
    rng = np.random.default_rng(3)
    values_NU = rng.normal(0, 3, FAMILIES) + rng.normal(0, 0.2, (3, FAMILIES))
    values_NU[1] += 0.5
    stands = of_means(values_NU)
    assert stands.ranks("higher") == [(2, 3), (1, 1), (2, 3)]
    assert stands.ranks("lower") == [(1, 2), (3, 3), (1, 2)]
    assert stands.ranks("neither") == [None] * 3
    assert stands.pairs == (3, 2)
    found = stands.difference(1, 0)
    assert found is not None and found.apart and found.low is not None and found.low > 0
    assert found.value == pytest.approx(values_NU[1].mean() - values_NU[0].mean())


def test_units_of_one_family_count_once() -> None:
    rng = np.random.default_rng(5)
    values_NU = rng.normal(0, 1, (2, 8))
    twenty = of_means(np.repeat(values_NU, 20, 1), [f"f{at // 20}" for at in range(160)])
    once = of_means(values_NU)
    assert twenty.families == once.families == 8 and twenty.units == 160
    assert twenty.wide_NN == pytest.approx(once.wide_NN)


def test_units_that_one_lacks_are_left_out_for_all() -> None:
    values_NU = np.array([[1.0, 2.0, math.nan], [0.0, 1.0, 50.0]])
    stands = of_means(values_NU)
    assert stands.units == 2 and stands.values_N.tolist() == [1.5, 0.5]
    nothing = of_means(np.array([[1.0, math.nan], [math.nan, 1.0]]))
    assert nothing.units == 0 and nothing.difference(0, 1) is None
    assert nothing.ranks("higher") == [None, None] and nothing.pairs == (0, 0)


def test_weights_make_ratios_and_one_without_a_value_spoils_no_other() -> None:
    parts_NU = np.array([[1.0, 3.0, 2.0], [2.0, 2.0, 1.0], [0.0, 0.0, 0.0]])
    weights_NU = np.array([[2.0, 2.0, 4.0], [2.0, 2.0, 4.0], [0.0, 0.0, 0.0]])
    stands = standing(parts_NU, weights_NU, list("abc"))
    assert stands.values_N[:2].tolist() == [0.75, 0.625] and math.isnan(stands.values_N[2])
    assert math.isfinite(stands.wide_NN[0, 1]) and stands.difference(0, 2) is None
    assert stands.ranks("higher") == [(1, 2), (1, 2), None]


def test_one_family_tells_nothing() -> None:
    stands = of_means(np.array([[1.0, 1.0], [0.0, 0.0]]), ["same", "same"])
    found = stands.difference(0, 1)
    assert found is not None and found.value == 1 and not found.apart
    assert (found.low, found.high) == (None, None)


def test_equal_saes_are_not_apart() -> None:
    row_U = np.random.default_rng(1).normal(size=FAMILIES)
    found = of_means(np.stack([row_U, row_U])).difference(0, 1)
    assert found is not None and (found.value, found.apart) == (0, False)
