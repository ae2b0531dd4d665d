"""Brier score and calibration error, by hand and for judges whose calibration is known."""

import numpy as np
import pytest

from monosemy.interp.statistics.calibration import (
    brier_score,
    expected_calibration_error,
    reliability,
)


def test_by_hand() -> None:
    p, truth = [0.9, 0.8, 0.2, 0.4], [True, False, False, True]
    assert brier_score(p, truth) == pytest.approx((0.01 + 0.64 + 0.04 + 0.36) / 4)
    # Two bins: (0, .5] says .3, sees .5; (.5, 1] says .85, sees .5.
    assert expected_calibration_error(p, truth, bins=2) == pytest.approx(0.5 * 0.2 + 0.5 * 0.35)
    table = reliability(p, truth, bins=2)
    assert [entry.n for entry in table] == [2, 2]
    assert table[0].as_dict() == pytest.approx(
        {"low": 0.0, "high": 0.5, "n": 2, "mean_probability": 0.3, "share_true": 0.5}
    )


def test_edges_and_extremes() -> None:
    # An edge belongs to the bin below it, 0 to the first.
    table = reliability([0.0, 0.1, 0.1000001, 1.0], [False, True, True, True])
    assert [(entry.low, entry.n) for entry in table] == [(0.0, 2), (0.1, 1), (0.9, 1)]
    assert brier_score([1.0, 0.0], [True, False]) == 0.0
    assert brier_score([1.0, 0.0], [False, True]) == 1.0
    assert expected_calibration_error([1.0, 0.0], [False, True]) == 1.0
    assert brier_score([0.5] * 7, [True] * 7) == 0.25


def test_a_calibrated_judge_and_an_overconfident_one() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(100_000)
    truth = rng.random(100_000) < p
    assert expected_calibration_error(p, truth) < 0.01
    # Mean of p (1 - p) over [0, 1] is 1/6.
    assert brier_score(p, truth) == pytest.approx(1 / 6, abs=0.003)
    # Pushed half-way to the ends, p is off by |0.5 - p| / 2 and more: mean of min(p, 1 - p) / 2.
    pushed = np.where(p > 0.5, (1 + p) / 2, p / 2)
    assert expected_calibration_error(pushed, truth) == pytest.approx(0.125, abs=0.005)


def test_the_bias_of_few_examples_is_as_said() -> None:
    rng = np.random.default_rng(1)
    errors = []
    for _ in range(2000):
        p = rng.random(50)
        errors.append(expected_calibration_error(p, rng.random(50) < p))
    assert np.mean(errors) == pytest.approx(0.13, abs=0.01)


@pytest.mark.parametrize(
    ("p", "truth"), [([], []), ([0.5], [True, False]), ([1.1], [True]), ([float("nan")], [True])]
)
def test_wrong_arguments(p: list[float], truth: list[bool]) -> None:
    for measure in (brier_score, expected_calibration_error):
        with pytest.raises(ValueError, match="probabilit"):
            measure(p, truth)
    with pytest.raises(ValueError, match="0 bins"):
        reliability([0.5], [True], bins=0)
