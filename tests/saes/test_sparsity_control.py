"""The controller of L0: does it arrive, from far off on either side, and does it go on the same."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from monosemy.saes.sparsity_control import L0Controller
from tests.support.sparse_truth import trained

TARGET = 4.0


@pytest.mark.parametrize("name", ["relu", "gated"])
@pytest.mark.parametrize("start", [1e-4, 1e-2, 1.0])
def test_l0_arrives_from_a_hundred_times_too_little_and_too_much(name: str, start: float) -> None:
    run = trained(name, steps=700, target_l0=TARGET, sparsity_coefficient=start)
    assert run.mean_l0() == pytest.approx(TARGET, rel=0.1)
    assert run.mean_l0(150) == pytest.approx(TARGET, rel=0.1), "it stays there"


def test_without_a_target_the_weight_is_the_coefficient() -> None:
    control = L0Controller(None, 0.03)
    for l0 in (0.0, 1.0, 500.0):
        assert float(control.weight(torch.tensor(l0))) == pytest.approx(0.03, rel=1e-6)


def test_the_weight_moves_against_the_error() -> None:
    for l0, rises in ((8.0, True), (2.0, False)):
        control = L0Controller(4.0, 0.1)
        weights = [float(control.weight(torch.tensor(l0))) for _ in range(5)]
        assert all((b > a) == rises for a, b in pairwise(weights))
    control = L0Controller(4.0, 0.1)
    assert float(control.weight(torch.tensor(4.0))) == pytest.approx(0.1, rel=1e-6)


def test_no_l0_at_all_keeps_the_weight_finite() -> None:
    control = L0Controller(4.0, 1.0)
    weights = [float(control.weight(torch.tensor(0.0))) for _ in range(50)]
    assert weights[-1] > 0 and weights[-1] < weights[0]


def test_a_restored_controller_goes_on_with_the_same_bits() -> None:
    first, second = L0Controller(4.0, 0.1), L0Controller(4.0, 7.0)
    for l0 in (20.0, 12.0, 6.0):
        first.weight(torch.tensor(l0))
    second.load_state_dict(first.state_dict())
    for l0 in (5.0, 3.0):
        assert torch.equal(first.weight(torch.tensor(l0)), second.weight(torch.tensor(l0)))
