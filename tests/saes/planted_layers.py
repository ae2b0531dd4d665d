"""Worlds of known truth for coders of several places."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import SAESpec, TrainingSpec
from monosemy.training.trainer import SAETrainer


class Bridging:
    """Three layers, each with fresh features that stay in the stream; each writes a new direction
    into the output of its own layer (weight 1) and of every later one (.7)."""

    layers, width, fresh, rate = 3, 48, 16, 0.06

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        size = (self.layers, self.fresh, self.width)
        self.read = normalize(torch.randn(size, generator=self.generator), dim=2)
        """``[layers, fresh, width]``."""
        shape = (self.layers, self.layers, self.fresh, self.width)
        self.write = normalize(torch.randn(shape, generator=self.generator), dim=3)
        """``[source, target, fresh, width]``."""

    def batch(self, n: int) -> tuple[Tensor, Tensor]:
        """What is read and what is to be written, ``[n, layers * width]`` each."""
        shape = (n, self.layers, self.fresh)
        fires = torch.rand(shape, generator=self.generator) < self.rate
        acts = fires * (0.5 + torch.rand(shape, generator=self.generator))
        x_NLd = torch.einsum("nlf,lfd->nld", acts, self.read).cumsum(1)
        y_NLd = torch.zeros(n, self.layers, self.width)
        for source in range(self.layers):
            for target in range(source, self.layers):
                weight = 1.0 if source == target else 0.7
                y_NLd[:, target] += weight * acts[:, source] @ self.write[source, target]
        return x_NLd.flatten(1), y_NLd.flatten(1)


class Chain:
    """Six chains in three steps: layer 0 makes b of p and q, layer 1 makes c of b, layer 2 o of
    c (after Lange et al. 2026): every later place could as well be made of p and q at once."""

    layers, width, chains, rate = 3, 48, 6, 0.25

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        shape = (5, self.chains, self.width)
        basis = torch.linalg.qr(torch.randn(self.width, self.width, generator=self.generator))[0]
        self.p, self.q, self.b, self.c, self.o = basis[:30].view(shape)

    def batch(self, n: int) -> tuple[Tensor, Tensor]:
        """As of ``Bridging``."""
        p, q = (
            (torch.rand(n, self.chains, generator=self.generator) < self.rate).float()
            for _ in range(2)
        )
        both = p * q
        before = p @ self.p + q @ self.q
        written = [both @ each for each in (self.b, self.c, self.o)]
        read = [before, before + written[0], before + written[0] + written[1]]
        return torch.cat(read, dim=1), torch.cat(written, dim=1)


def trained(
    spec: SAESpec, world: Bridging | Chain, steps: int, batch: int, layer: int | None = None
) -> SAE:
    """An SAE of all places, or of one layer's; the last fifth of the steps lowers the rate to 0."""
    width = world.width
    own = slice(None) if layer is None else slice(layer * width, (layer + 1) * width)
    wide = width * (world.layers if layer is None else 1)
    sae = create(spec, wide, wide)
    sae.initialise(torch.Generator().manual_seed(0))
    trainer = SAETrainer(sae, TrainingSpec())
    for step in range(steps):
        x, y = (each[:, own] for each in world.batch(batch))
        x, y = x * 48**0.5, y * 48**0.5
        if step == 0:
            with torch.no_grad():
                sae.begin(x)
        rate = 3e-3 * min(1.0, 5 * (1 - step / steps))
        trainer.step(x, step, rate, steps, y)
    with torch.no_grad():
        sae.calibrate(x)
    return sae.requires_grad_(False)


def fvus(sae: SAE, x: Tensor, y: Tensor, width: int) -> list[float]:
    """Of each place."""
    error = (sae(x) - y).unflatten(1, (-1, width)).pow(2).sum((0, 2))
    spread = (y - y.mean(0)).unflatten(1, (-1, width)).pow(2).sum((0, 2))
    return [float(value) for value in error / spread]
