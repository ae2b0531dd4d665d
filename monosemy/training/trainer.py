"""One SAE's optimiser steps.  Where the batches come from is the caller's business."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from monosemy.errors import DataError, MonosemyError
from monosemy.saes.auxk import DeadLatents
from monosemy.saes.base import SAE, StepInfo, TrainingPass
from monosemy.specs import TrainingSpec
from monosemy.training.optimisers import make_optimiser
from monosemy.training.resampling import is_due, resample

_DEAD_EVERY = 10
"""Steps between looks at which latents are dead: the look waits for the device."""

_SMOOTHING = 0.02
"""Weight of the newest batch in the running means."""

_DENSITY_SMOOTHING = 0.005
"""The same for the firing rates, which for rare latents need more tokens."""


class SAETrainer:
    """Steps on FVU plus the architecture's terms; decoder rows at unit length, gradients clipped.

    FVU here is that of the batch: squared error over the batch's own variance, so that neither the
    loss nor the weight of the terms in it depends on the scale of the data.  With
    ``frozen_decoder`` the decoder stays what it was at the start and only the rest learns: the
    baseline that says what random directions achieve.
    """

    def __init__(self, sae: SAE, spec: TrainingSpec, frozen_decoder: bool = False) -> None:
        self.sae = sae
        self.spec = spec
        self.frozen_decoder = frozen_decoder
        for weights in sae.decoder_parameters():
            weights.requires_grad_(not frozen_decoder)
        self.parameters = [p for p in sae.parameters() if p.requires_grad]
        self.group = sae.group
        self.optimiser = make_optimiser(spec.optimiser, self.parameters, spec.learning_rate)
        self.dead = DeadLatents(sae.d_sae, sae.spec.dead_after_tokens, sae.device)
        self.dead_indices = torch.zeros(0, dtype=torch.int64, device=sae.device)
        self.density = torch.zeros(sae.d_sae, device=sae.device)
        """Running share of tokens on which each latent fires, ``[d_sae]``."""
        self.averages: dict[str, Tensor] = {}
        """Running means by name, scalars on the device."""

    def step(
        self,
        x_ND: Tensor,
        number: int,
        rate: float,
        total_steps: int | None = None,
        target_ND: Tensor | None = None,
    ) -> None:
        """Trains on one batch ``[n, d_in]``; ``number`` counts steps from 0.

        ``target_ND`` is what a transcoder reconstructs.  ``total_steps`` is what annealing needs.
        Nothing here waits for the device but the look at the dead latents, every tenth step.
        """
        if number % _DEAD_EVERY == 0:
            self.dead_indices = self.dead.indices()
            self.group.note_dead(self.dead_indices)
        target_ND = x_ND if target_ND is None else target_ND
        info = StepInfo(number, total_steps or self._steps(len(x_ND)), self.dead_indices)
        out = self.sae.training_pass(x_ND, target_ND, info)
        variance = self.group.variance(target_ND).clamp_min(1e-30)
        fvu = F.mse_loss(out.reconstruction, target_ND, reduction="sum") / variance
        loss = fvu + sum(out.terms.values(), torch.zeros((), device=x_ND.device))
        loss.backward()  # type: ignore[no-untyped-call]
        self._update(rate)
        tokens, fired_F = len(x_ND) * self.group.processes, self.group.sum(out.fired_F)
        self.dead.update(fired_F, tokens)
        self._average(out, fvu, loss, number)
        self.density.lerp_(fired_F.float() / tokens, max(_DENSITY_SMOOTHING, 1 / (number + 1)))
        if not self.frozen_decoder and is_due(self.spec, number, info.total_steps):
            residual_ND = target_ND - out.reconstruction.detach()
            self._resample(x_ND, residual_ND, number)

    def _resample(self, x_ND: Tensor, residual_ND: Tensor, number: int) -> None:
        seed = self.spec.seed + number
        started = resample(self.sae, self.optimiser, self.dead.indices(), x_ND, residual_ND, seed)
        self.dead.silent_for[started] = 0
        self.dead_indices = self.dead.indices()

    def _steps(self, batch: int) -> int:
        return -(-self.spec.tokens // batch)

    def _update(self, rate: float) -> None:
        self.group.average_gradients(self.parameters)
        self.sae.project_decoder_gradient()
        self.group.clip(self.parameters, self.spec.gradient_clip)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.sae.after_step()

    @torch.no_grad()
    def _average(self, out: TrainingPass, fvu: Tensor, loss: Tensor, number: int) -> None:
        newest = {"fvu": fvu, "l0": out.l0, "loss": loss, **out.terms}
        weight = max(_SMOOTHING, 1 / (number + 1))
        for name in {**self.averages, **newest}:  # a term that is absent counts as 0
            value = newest.get(name)
            before = self.averages.setdefault(name, torch.zeros((), device=loss.device))
            before.lerp_(torch.zeros_like(before) if value is None else value.float(), weight)

    def readings(self) -> dict[str, float]:
        """Running means over the last (about fifty) batches, and the share of dead latents now.

        fvu, l0, loss, and the architecture's terms as they are weighted in the loss.  Waits for the
        device.  Raises ``MonosemyError`` when the loss is no number any more.
        """
        means = {**self.averages, "dead_share": self.dead.mask().float().mean()}
        values_M = self.group.reported(list(means), torch.stack(list(means.values())))
        values = dict(zip(means, values_M.tolist(), strict=True))
        if not all(math.isfinite(value) for value in values.values()):
            raise MonosemyError(
                "Training diverged: the loss is no number any more.",
                "Use a smaller training.learning_rate.",
            )
        return values

    def state(self, prefix: str) -> dict[str, Tensor]:
        """Weights, moments and counters as flat tensors, for a checkpoint."""
        tensors = {f"{prefix}.sae.{name}": value for name, value in self.sae.state_dict().items()}
        tensors[f"{prefix}.silent_for"] = self.dead.silent_for
        tensors[f"{prefix}.dead_indices"] = self.dead_indices
        tensors[f"{prefix}.density"] = self.density
        for name, value in self.averages.items():
            tensors[f"{prefix}.averages.{name}"] = value
        for i, slots in self.optimiser.state_dict()["state"].items():
            for name, value in slots.items():
                tensors[f"{prefix}.optimiser.{i}.{name}"] = torch.as_tensor(value)
        return tensors

    def restore(self, prefix: str, tensors: dict[str, Tensor]) -> None:
        """Takes back what ``state`` gave; ``DataError`` if it is that of another SAE."""
        try:
            weights = {name: tensors[f"{prefix}.sae.{name}"] for name in self.sae.state_dict()}
            self.sae.load_state_dict(weights)
            self.dead.silent_for.copy_(tensors[f"{prefix}.silent_for"])
            self.density.copy_(tensors[f"{prefix}.density"])
            self.dead_indices = tensors[f"{prefix}.dead_indices"].to(self.sae.device)
        except (KeyError, RuntimeError) as error:
            raise DataError(f"The checkpoint does not fit this SAE: {error}.") from None
        start = f"{prefix}.averages."
        self.averages = {
            name.removeprefix(start): value.to(self.sae.device).clone()
            for name, value in tensors.items()
            if name.startswith(start)
        }
        self._restore_optimiser(f"{prefix}.optimiser.", tensors)

    def _restore_optimiser(self, start: str, tensors: dict[str, Tensor]) -> None:
        slots: dict[int, dict[str, Any]] = {}
        for name, value in tensors.items():
            if name.startswith(start):
                number, slot = name.removeprefix(start).split(".")
                # The moments take the parameter's memory layout, which a file does not keep.
                like = self.parameters[int(number)]
                same = value.shape == like.shape and value.dim() > 0
                kept = torch.empty_like(like).copy_(value) if same else value.clone()
                slots.setdefault(int(number), {})[slot] = kept
        state = self.optimiser.state_dict()
        state["state"] = slots
        self.optimiser.load_state_dict(state)
