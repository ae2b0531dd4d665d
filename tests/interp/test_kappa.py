"""Cohen's kappa: by hand, against the large-sample interval, and against another optimiser."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from monosemy.interp.statistics.kappa import Kappa, cohen_kappa
from monosemy.interp.statistics.rates import Z95

KINDS = ((True, True), (True, False), (False, True), (False, False))


def kappa(*counts: int) -> Kappa:
    """Of (both yes, the first alone, the second alone, neither)."""
    pairs = [kind for kind, count in zip(KINDS, counts, strict=True) for _ in range(count)]
    return cohen_kappa(pairs)


def test_by_hand() -> None:
    """Agreement .7; by chance 25 / 50 * 30 / 50 + 25 / 50 * 20 / 50 = .5."""
    agreement = kappa(20, 5, 10, 15)
    assert agreement.value == pytest.approx(0.4)
    assert (agreement.observed, agreement.n) == (0.7, 50)
    assert agreement.low < 0.4 < agreement.high


@pytest.mark.parametrize("counts", [(2000, 500, 1000, 1500), (400, 300, 350, 3000)])
def test_of_many_it_is_the_large_sample_interval(counts: tuple[int, ...]) -> None:
    """Fleiss, Cohen and Everitt, Psychological Bulletin 72 (1969) 323, equation 13."""
    a, b, c, d = (count / sum(counts) for count in counts)
    first, second, observed = a + b, a + c, a + d
    expected = first * second + (1 - first) * (1 - second)
    value = (observed - expected) / (1 - expected)
    agreeing = a * (1 - (first + second) * (1 - value)) ** 2
    agreeing += d * (1 - (2 - first - second) * (1 - value)) ** 2
    differing = b * (second + 1 - first) ** 2 + c * (first + 1 - second) ** 2
    variance = agreeing + (1 - value) ** 2 * differing - (value - expected * (1 - value)) ** 2
    half = Z95 * math.sqrt(variance / sum(counts)) / (1 - expected)
    agreement = kappa(*counts)
    assert agreement.value == pytest.approx(value)
    assert agreement.low == pytest.approx(value - half, abs=0.002)
    assert agreement.high == pytest.approx(value + half, abs=0.002)


def likelihood_ratio(counts: tuple[int, ...], wanted: float) -> float:
    """Of all tables and those with the kappa ``wanted``, by SLSQP from several starts."""
    seen = np.array(counts, float)

    def minus(shares: np.ndarray) -> float:
        return -float(np.sum(seen * np.log(np.maximum(shares, 1e-300))))

    def off(shares: np.ndarray) -> float:
        a, b, c, d = shares
        chance = (a + b) * (a + c) + (1 - a - b) * (1 - a - c)
        return float((a + d) - chance - wanted * (1 - chance))

    rules = [{"type": "eq", "fun": lambda s: s.sum() - 1}, {"type": "eq", "fun": off}]
    best = math.inf
    for start in ((0.25,) * 4, (0.6, 0.1, 0.1, 0.2), (0.1, 0.1, 0.1, 0.7), (0.4, 0.02, 0.18, 0.4)):
        optimum = minimize(
            minus, start, bounds=[(1e-12, 1)] * 4, constraints=rules, options={"maxiter": 500}
        )
        if optimum.success and abs(off(optimum.x)) < 1e-6:
            best = min(best, float(optimum.fun))
    return 2 * (best - minus(seen / seen.sum()))


@pytest.mark.parametrize("counts", [(20, 5, 10, 15), (9, 2, 1, 8), (45, 15, 25, 15), (6, 1, 2, 1)])
def test_its_ends_are_where_the_likelihood_ratio_says(counts: tuple[int, ...]) -> None:
    agreement = kappa(*counts)
    for end in (agreement.low, agreement.high):
        assert likelihood_ratio(counts, end) == pytest.approx(Z95**2, abs=0.05)


def test_perfect_agreement_on_few_is_not_certain() -> None:
    five, fifty = kappa(3, 0, 0, 2), kappa(30, 0, 0, 20)
    assert five.value == fifty.value == 1.0 == five.high == fifty.high
    assert five.low < 0.75 < 0.9 < fifty.low < 1
    opposed = kappa(0, 10, 10, 0)
    assert opposed.value == opposed.low == -1.0 < opposed.high < -0.5


def test_where_both_say_one_thing_only_there_is_none() -> None:
    assert kappa(20, 0, 0, 0) == Kappa(None, -1.0, 1.0, 1.0, 20, 0, 0, 0)
    assert kappa(0, 0, 0, 0) == Kappa(None, -1.0, 1.0, None, 0, 0, 0, 0)
    assert kappa(19, 1, 0, 0).value == 0.0
    swapped, given = kappa(7, 4, 1, 8), kappa(7, 1, 4, 8)
    assert (swapped.value, swapped.low) == pytest.approx((given.value, given.low), abs=1e-6)
