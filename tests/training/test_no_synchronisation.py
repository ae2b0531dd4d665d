"""A step never asks for a value: on a GPU that would wait for the device.

Every operator that needs its result on the host before it can go on passes through PyTorch's
dispatcher, so a mode that watches the dispatcher sees all of them, on any machine; but for
``tolist`` and ``numpy``, which are watched by name.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from monosemy.saes.registry import create
from monosemy.specs import TopKSpec, TrainingSpec
from monosemy.training.trainer import SAETrainer
from tests.support.waits import Waits


def trainer() -> tuple[SAETrainer, torch.Tensor]:
    sae = create(TopKSpec(d_sae=256, k=4, dead_after_tokens=30), 16)
    sae.initialise(torch.Generator().manual_seed(0))
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(1))
    made = SAETrainer(sae, TrainingSpec())
    for number in range(11):  # moments are there, latents are dead, AuxK has its say
        made.step(x, number, 1e-3, 100)
    assert len(made.dead_indices)
    return made, x


def test_nine_steps_of_ten_never_wait() -> None:
    made, x = trainer()
    with Waits() as waits:
        for number in range(11, 20):
            made.step(x, number, 1e-3, 100)
    assert waits.seen == []


def test_the_tenth_looks_at_the_dead_and_readings_look_at_the_means() -> None:
    made, x = trainer()
    with Waits() as waits:
        made.step(x, 20, 1e-3, 100)
    assert waits.seen == ["aten::nonzero"]
    with Waits() as waits:
        made.readings()
    assert waits.seen == ["tolist"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: (x > 0).nonzero(),
        lambda x: x.tolist(),
    ],
)
def test_the_watch_would_see_it(ask: Any) -> None:
    with Waits() as waits:
        ask(torch.randn(5))
    assert waits.seen
