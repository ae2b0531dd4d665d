"""Where the decoder bias starts."""

from __future__ import annotations

import torch
from torch import Tensor

from monosemy.training.initial_bias import geometric_median, middle


def total_distance(x: Tensor, point: Tensor) -> float:
    return float((x - point).norm(dim=1).sum())


def test_on_a_line_it_is_the_median() -> None:
    x = torch.tensor([[0.0], [1.0], [2.0], [10.0], [100.0]], dtype=torch.float64)
    torch.testing.assert_close(geometric_median(x), x[2], atol=1e-3, rtol=0)


def test_no_point_nearby_is_closer_to_all() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 6, generator=generator).double().exp()
    best = geometric_median(x)
    least = total_distance(x, best)
    for _ in range(50):
        move = torch.randn(6, generator=generator).double() * 0.05
        assert total_distance(x, best + move) > least
    assert least < total_distance(x, x.mean(0))


def test_outliers_move_the_mean_and_not_the_median() -> None:
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(1))
    spoilt = x.clone()
    spoilt[:5] = 1e4
    assert (middle(spoilt, "mean") - middle(x, "mean")).norm() > 100
    assert (middle(spoilt, "geometric_median") - middle(x, "geometric_median")).norm() < 0.2


def test_equal_points_are_their_own_middle() -> None:
    x = torch.ones(10, 3)
    for measure in ("mean", "geometric_median"):
        torch.testing.assert_close(middle(x, measure), torch.ones(3))  # type: ignore[arg-type]
    assert not middle(x, "zero").any()


def test_a_majority_at_one_point_is_the_median() -> None:
    x = torch.cat([torch.zeros(6, 2), torch.tensor([[4.0, 0.0], [0.0, 5.0], [3.0, 3.0]])])
    torch.testing.assert_close(geometric_median(x), torch.zeros(2), atol=1e-3, rtol=0)
