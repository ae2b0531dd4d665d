"""Means over features and their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from workers.interp_rows import mean_interval


def test_an_interval_needs_two_values() -> None:
    assert mean_interval([]) == (None, None, None)
    assert mean_interval([0.5]) == (0.5, None, None)
    mean, low, high = mean_interval([0.4, 0.6])
    assert mean == pytest.approx(0.5) and low is not None and high is not None
    assert high - low == pytest.approx(2 * 12.706 * math.sqrt(0.02) / math.sqrt(2), rel=1e-3)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        _, low, high = mean_interval(rng.normal(0.7, 0.1, 8).tolist())
        assert low is not None and high is not None
        held += low <= 0.7 <= high
    assert 0.935 < held / 2000 < 0.965
