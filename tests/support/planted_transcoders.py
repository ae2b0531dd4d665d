"""A map of sparse features whose readers and writers are known, and how a coder fares on it.

``F`` features are active at random; ``x`` is the sum of their *readers*, unit directions, and a
little noise; the target is what units ``relu(x @ reader - .3)`` write along their *writers*, other
unit directions, and with ``linear`` a random linear map of x on top.  A transcoder should have each
writer as a decoder row, whose encoder column reads what is planted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import SAESpec, TrainingSpec
from monosemy.training.schedule import learning_rate
from monosemy.training.trainer import SAETrainer

D, FEATURES, LATENTS, STEPS, BATCH = 64, 80, 128, 2000, 512
RATE, NOISE, LEAST, LINEAR = 0.03, 0.02, 0.3, 0.5


@dataclass
class World:
    readers_FD: Tensor
    writers_FD: Tensor
    linear_DD: Tensor
    """Zeros where there is no linear part."""
    generator: torch.Generator

    @classmethod
    def planted(cls, seed: int, linear: bool) -> World:
        generator = torch.Generator().manual_seed(seed)
        readers, writers = (
            F.normalize(torch.randn(FEATURES, D, generator=generator), dim=1) for _ in range(2)
        )
        mixing = torch.randn(D, D, generator=generator) / D**0.5
        return cls(readers, writers, LINEAR * mixing if linear else torch.zeros(D, D), generator)

    def batch(self, n: int = BATCH) -> tuple[Tensor, Tensor]:
        """(x, target), ``[n, D]`` each."""
        firing = torch.rand(n, FEATURES, generator=self.generator) < RATE
        size = 0.5 + torch.rand(n, FEATURES, generator=self.generator)
        x = (firing * size) @ self.readers_FD
        x = x + NOISE * torch.randn(n, D, generator=self.generator)
        made = (x @ self.readers_FD.T - LEAST).relu() @ self.writers_FD
        return x, made + x @ self.linear_DD.T


@dataclass
class Learned:
    sae: SAE
    recovered: int
    """Planted writers that some decoder row has (cosine above .9)."""
    reader_cosine: float
    """Mean cosine of those rows' encoder columns to the planted readers."""
    skip_cosine: float
    """Of the skip matrix to the planted linear map; 0 without either."""
    fvu: float
    """On tokens that were not trained on."""
    l0: float


def learned(spec: SAESpec, seed: int, linear: bool, steps: int = STEPS) -> Learned:
    """Trains as a run does: both sides scaled to a mean norm of ``sqrt(D)``, Adam at 3e-3 with the
    last fifth of the steps falling to 0."""
    world = World.planted(seed, linear)
    training = TrainingSpec(tokens=steps * BATCH, batch_tokens=BATCH, learning_rate=3e-3, seed=seed)
    sae = create(spec, D, D)
    sae.initialise(torch.Generator().manual_seed(seed))
    x, target = world.batch(8192)
    scale_in, scale_out = (D**0.5 / float(side.norm(dim=1).mean()) for side in (x, target))
    with torch.no_grad():
        sae.b_dec.copy_(target.mean(0) * scale_out)
        sae.begin(x * scale_in)
    trainer = SAETrainer(sae, training)
    for number in range(steps):
        x, target = world.batch()
        rate = learning_rate(number, steps, training)
        trainer.step(x * scale_in, number, rate, steps, target * scale_out)
    with torch.no_grad():
        x, target = world.batch(16_384)
        sae.calibrate(x * scale_in)
        sae.rescale(scale_in, scale_out)
    sae.requires_grad_(False)
    return _figures(sae, world)


def _figures(sae: SAE, world: World) -> Learned:
    cosine = world.writers_FD @ F.normalize(sae.W_dec, dim=1).T
    best, row = cosine.max(dim=1)
    here = best > 0.9
    readers = F.normalize(sae.W_enc.T[row[here]], dim=1)
    along = (readers * world.readers_FD[here]).sum(1)
    skip = sae.skip_matrix()
    both = skip is not None and bool(world.linear_DD.any())
    x, target = world.batch(8192)
    codes = sae.encode(x)
    error = (sae.decode(codes, x) - target).square().sum()
    return Learned(
        sae,
        int(here.sum()),
        float(along.mean()) if len(along) else 0.0,
        float(F.cosine_similarity(skip.flatten(), world.linear_DD.flatten(), dim=0))
        if skip is not None and both
        else 0.0,
        float(error / (target - target.mean(0)).square().sum()),
        float(codes.l0().float().mean()),
    )
