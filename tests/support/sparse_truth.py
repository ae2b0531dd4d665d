"""Planted truth: sparse sums of known directions, and a short training on them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import TrainingSpec
from monosemy.specs.architectures import ARCHITECTURES
from monosemy.training.trainer import SAETrainer

FEATURES, D_IN, ACTIVE = 64, 32, 4.0


class Planted:
    """Each of ``FEATURES`` unit directions fires on a share ``ACTIVE / FEATURES`` of the tokens;
    batches are scaled so that ``mean |x|^2 = D_IN``, as the trainer's data is."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        atoms = torch.randn(FEATURES, D_IN, generator=self.generator)
        self.atoms_FD = torch.nn.functional.normalize(atoms, dim=1)

    def sample(self, n: int = 512) -> tuple[Tensor, Tensor]:
        """(activations ``[n, D_IN]``, the coefficients ``[n, FEATURES]`` that made them)"""
        fires = torch.rand(n, FEATURES, generator=self.generator) < ACTIVE / FEATURES
        truth_NF = fires * (0.5 + torch.rand(n, FEATURES, generator=self.generator))
        x = truth_NF @ self.atoms_FD
        scale = (D_IN / x.pow(2).sum(1).mean()).sqrt()
        return x * scale, truth_NF * scale

    def batch(self, n: int = 512) -> Tensor:
        return self.sample(n)[0]


class Run(NamedTuple):
    sae: SAE
    l0: list[float]
    fvu: list[float]

    def mean_l0(self, last: int = 50) -> float:
        return sum(self.l0[-last:]) / last

    def mean_fvu(self, last: int = 50) -> float:
        return sum(self.fvu[-last:]) / last


def trained(
    name: str, steps: int, frozen: bool = False, lr: float = 3e-3, world: int = 0, **options: Any
) -> Run:
    """An SAE of ``FEATURES`` latents trained by the real trainer on the world of that seed; every
    step's L0 and FVU."""
    sae = create(ARCHITECTURES[name](d_sae=FEATURES, **options), D_IN)
    sae.initialise(torch.Generator().manual_seed(1))
    trainer = SAETrainer(sae, TrainingSpec(), frozen_decoder=frozen)
    data, run = Planted(world), Run(sae, [], [])
    original = sae.training_pass

    def watched(x_ND: Tensor, target_ND: Tensor, info: Any) -> Any:
        result = original(x_ND, target_ND, info)
        error = (target_ND - result.reconstruction.detach()).pow(2).sum()
        run.l0.append(float(result.l0))
        run.fvu.append(float(error / (target_ND - target_ND.mean(0)).pow(2).sum()))
        return result

    sae.training_pass = watched  # type: ignore[method-assign]
    for number in range(steps):
        trainer.step(data.batch(), number, lr, steps)
    del sae.training_pass  # type: ignore[method-assign]
    return run
