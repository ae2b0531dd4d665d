"""Training steps through the kernels, in Triton's interpreter: run by
``test_triton_kernels.py``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from monosemy.native.gpu import agreement, device, largest, rows
from monosemy.saes.registry import create
from monosemy.specs import BatchTopKSpec, SAESpec, TopKSpec, TrainingSpec
from monosemy.training.trainer import SAETrainer
from tests.support.campaign import wider
from tests.support.waits import Waits

KERNELS = [
    (largest, "largest"),
    (rows, "weighted_sums"),
    (rows, "products"),
    (rows, "bag_sums"),
    (rows, "bag_products"),
]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each kernel was called."""
    assert device.ready(torch.device("cpu"))
    counts = dict.fromkeys([name for _, name in KERNELS], 0)

    def counted(module: Any, name: str) -> None:
        kernel = getattr(module, name)

        def call(*args: Any) -> Any:
            counts[name] += 1
            return kernel(*args)

        monkeypatch.setattr(module, name, call)

    for module, name in KERNELS:
        counted(module, name)
    return counts


def batch(number: int) -> Tensor:
    return torch.randn(12, 12, generator=torch.Generator().manual_seed(100 + number))


def weights_after(spec: SAESpec, steps: int) -> dict[str, Tensor]:
    sae = create(spec, 12)
    sae.initialise(torch.Generator().manual_seed(0))
    trainer = SAETrainer(sae, TrainingSpec())
    for number in range(steps):
        trainer.step(batch(number), number, 1e-3, 100)
    return {name: value.clone() for name, value in sae.state_dict().items()}


REVIVED = TopKSpec(d_sae=40, k=4, dead_after_tokens=12)


@pytest.mark.parametrize(
    ("spec", "used"),
    [
        (BatchTopKSpec(d_sae=40, k=4), {"bag_products"}),
        *wider(
            (
                TopKSpec(d_sae=40, k=4, dead_after_tokens=12),
                {"largest", "weighted_sums", "products"},
            )
        ),
    ],
)
def test_a_few_steps_move_the_weights_as_without_kernels(
    spec: SAESpec, used: set[str], calls: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_after(spec, 3)
    assert all(calls[name] >= 3 for name in used | {"bag_sums"})
    before = dict(calls)
    monkeypatch.setenv("MONOSEMY_NATIVE", "0")
    wanted = weights_after(spec, 3)
    assert calls == before
    for name, value in wanted.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5)
    assert (wanted["W_dec"] - weights_after(spec, 0)["W_dec"]).abs().max() > 1e-4


@pytest.mark.campaign
def test_equal_steps_give_equal_bits() -> None:
    spec = TopKSpec(d_sae=40, k=4)
    first, second = weights_after(spec, 2), weights_after(spec, 2)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_step_through_the_kernels_waits_for_nothing(calls: dict[str, int]) -> None:
    sae = create(TopKSpec(d_sae=40, k=4), 12)
    sae.initialise(torch.Generator().manual_seed(0))
    trainer = SAETrainer(sae, TrainingSpec())
    trainer.step(batch(0), 0, 1e-3, 100)
    with Waits() as waits:
        trainer.step(batch(1), 1, 1e-3, 100)
    assert waits.seen == [] and calls["largest"] == 2


@pytest.mark.campaign
def test_the_size_that_cards_are_asked_at_agrees_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for size, number in {"_TOKENS": 20, "_WIDTH": 1000, "_D": 300}.items():
        monkeypatch.setattr(agreement, size, number)
    assert agreement.disagreement(torch.device("cpu")) == ""


@pytest.mark.parametrize(("module", "name"), [KERNELS[0], *wider(*KERNELS[1:])])
def test_a_kernel_that_is_wrong_on_a_device_is_noticed(
    module: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = getattr(module, name)

    def wrong(*args: Any) -> Any:
        result = kernel(*args)
        first, rest = (result[0], result[1:]) if isinstance(result, tuple) else (result, None)
        first.view(-1)[-1] += 0.01
        return first if rest is None else (first, *rest)

    monkeypatch.setattr(module, name, wrong)
    assert "wrong results" in agreement.disagreement(torch.device("cpu"))
