"""Precision at the density of the text, against Bayes by hand and by simulation."""

import math

import numpy as np
import pytest

from monosemy.interp.statistics.natural import mover_ratio, natural_precision, precision_at
from monosemy.interp.statistics.rates import Rate, rate_of, wilson


def _rate(hits: int, n: int) -> Rate:
    return Rate(hits / n if n else None, *wilson(hits, n), n, n)


@pytest.mark.parametrize(
    ("tpr", "fpr", "density", "precision"),
    [  # per cent, rounded
        (0.75, 0.05, 1e-3, 1.5),
        (0.75, 0.05, 1e-4, 0.15),
        (0.9, 0.01, 1e-3, 8.3),
        (0.9, 0.01, 1e-4, 0.9),
    ],
)
def test_known_values(tpr: float, fpr: float, density: float, precision: float) -> None:
    assert 100 * (precision_at(tpr, fpr, density) or 0) == pytest.approx(precision, rel=0.02)


def test_precision_is_that_of_counts() -> None:
    """Of 10,000 contexts 200 positive: 150 hits, and 490 false alarms of 9,800."""
    assert precision_at(0.75, 0.05, 0.02) == pytest.approx(150 / (150 + 490))
    assert precision_at(0.0, 0.0, 0.1) is None
    with pytest.raises(ValueError, match=r"density 1\.5"):
        precision_at(0.5, 0.5, 1.5)


def test_the_ratio_interval_is_donner_and_zous() -> None:
    """Written out as printed: [ab - sqrt(a2b2 - l1u2(2a - l1)(2b - u2))] / [u2(2b - u2)]."""
    first, second = _rate(36, 50), _rate(12, 60)
    a, b = 36 / 50, 12 / 60
    l1, u1, l2, u2 = first.low, first.high, second.low, second.high
    low = (a * b - math.sqrt(a**2 * b**2 - l1 * u2 * (2 * a - l1) * (2 * b - u2))) / (
        u2 * (2 * b - u2)
    )
    high = (a * b + math.sqrt(a**2 * b**2 - u1 * l2 * (2 * a - u1) * (2 * b - l2))) / (
        l2 * (2 * b - l2)
    )
    assert mover_ratio(first, second) == pytest.approx((low, high))
    # Each end is where MOVER's interval of the difference first - ratio * second has an end at 0.
    for ratio, d1, d2 in ((low, a - l1, u2 - b), (high, u1 - a, b - l2)):
        assert (a - ratio * b) ** 2 == pytest.approx(d1**2 + (ratio * d2) ** 2)
    with pytest.raises(ValueError, match="empty"):
        mover_ratio(_rate(0, 0), second)


def test_ends_and_empty_rates() -> None:
    never_false = natural_precision(_rate(40, 50), _rate(0, 50), 1e-3)
    assert never_false.value == never_false.high == 1.0
    # 50 negatives without a false alarm leave 7 % possible, hence hardly any precision assured.
    assert 0.005 < never_false.low < 0.02
    never_true = natural_precision(_rate(0, 50), _rate(5, 50), 1e-3)
    assert never_true.value == never_true.low == 0.0
    assert never_true.high > 0
    silent = natural_precision(_rate(0, 50), _rate(0, 50), 1e-3)
    assert (silent.value, silent.low, silent.high) == (None, 0.0, 1.0)
    empty = natural_precision(_rate(0, 0), _rate(1, 50), 0.2)
    assert empty.as_dict() == {"value": None, "low": 0.0, "high": 1.0, "density": 0.2}
    assert natural_precision(_rate(5, 10), _rate(5, 10), 1.0).value == 1.0
    with pytest.raises(ValueError, match="density -1"):
        natural_precision(_rate(0, 0), _rate(1, 50), -1)


@pytest.mark.parametrize(
    ("tpr", "fpr", "n", "per_document"),
    [(0.75, 0.05, 100, 1), (0.9, 0.1, 50, 1), (0.8, 0.2, 100, 4)],
)
def test_the_interval_covers(tpr: float, fpr: float, n: int, per_document: int) -> None:
    """2,000 scorings: 95 +- 1 % at two standard errors."""
    rng = np.random.default_rng(0)
    documents = [i // per_document for i in range(n)]
    truth = precision_at(tpr, fpr, 1e-3)
    assert truth is not None
    covered = 0
    for _ in range(2000):
        rates = []
        for mean in (tpr, fpr):
            p = np.full(n, mean)
            if per_document > 1:
                p = rng.beta(mean * 3, (1 - mean) * 3, documents[-1] + 1)[documents]
            rates.append(rate_of((rng.random(n) < p).tolist(), documents))
        precision = natural_precision(rates[0], rates[1], 1e-3)
        assert precision.value is None or precision.low <= precision.value <= precision.high
        covered += precision.low <= truth <= precision.high
    assert 0.93 <= covered / 2000 <= 0.97
