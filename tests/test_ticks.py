"""Axes go from one round value to another and hold the data."""

from __future__ import annotations

import math

import pytest

from monosemy.ticks import covering, covering_log


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.24, 1.0, [0.2, 0.4, 0.6, 0.8, 1.0]),
        (-5.22, 8.45, [-10, -5, 0, 5, 10]),
        (0, 32, [0, 10, 20, 30, 40]),
        (0, 0, [0, 0.5]),
        (0.1, 0.3, [0.1, 0.15, 0.2, 0.25, 0.3]),
    ],
)
def test_round_values(low: float, high: float, ticks: list[float]) -> None:
    assert covering(low, high) == ticks


@pytest.mark.parametrize("scale", [1e-9, 0.037, 1.0, 12345.0])
def test_data_lie_within(scale: float) -> None:
    for low, high in ((0.0, 1.0), (-0.3, 0.91), (2.2, 2.21), (5.0, 5.0)):
        ticks = covering(low * scale, high * scale)
        assert ticks[0] <= low * scale + 1e-12 and ticks[-1] >= high * scale - 1e-12
        assert len(ticks) >= 2 and ticks == sorted(set(ticks)) and len(ticks) <= 8


def test_by_the_logarithm() -> None:
    assert covering_log(0.416, 0.795) == [0.2, 0.5, 1.0]
    assert covering_log(0.5, 0.5) == [0.5, 1.0]
    assert all(math.log10(each) == round(math.log10(each)) for each in covering_log(1e-4, 3e3))
