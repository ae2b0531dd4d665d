"""One SAE's optimiser steps.  Where the batches come from is the caller's business."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monosemy.errors import DataError, MonosemyError
from monosemy.saes.auxk import DeadLatents, auxk_loss
from monosemy.saes.base import SAE
from monosemy.specs import TrainingSpec

_DEAD_EVERY = 10
"""Steps between looks at which latents are dead: the look waits for the device."""

_SMOOTHING = 0.02
"""Weight of the newest batch in the running means."""

_READINGS = ("fvu", "l0", "loss", "auxk")


class SAETrainer:
    """Adam on FVU plus AuxK, decoder rows kept at unit length, gradients clipped.

    FVU here is that of the batch: squared error over the batch's own variance, so that neither the
    loss nor the weight of AuxK in it depends on the scale of the data.  With ``frozen_decoder`` the
    decoder stays what it was at the start and only the encoder and the biases learn: the baseline
    that says what random directions achieve.
    """

    def __init__(self, sae: SAE, spec: TrainingSpec, frozen_decoder: bool = False) -> None:
        self.sae = sae
        self.spec = spec
        self.frozen_decoder = frozen_decoder
        sae.W_dec.requires_grad_(not frozen_decoder)
        self.parameters = [p for p in sae.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(
            self.parameters, lr=spec.learning_rate, betas=(0.9, 0.999), fused=True
        )
        self.dead = DeadLatents(sae.d_sae, sae.spec.dead_after_tokens, sae.device)
        self.dead_indices = torch.zeros(0, dtype=torch.int64, device=sae.device)
        self.averages = torch.zeros(len(_READINGS), device=sae.device)

    def step(self, x_ND: Tensor, number: int, rate: float) -> None:
        """Trains on one batch ``[n, d_in]``; ``number`` counts steps from 0."""
        codes = self.sae.encode(x_ND)
        reconstruction = self.sae.decode(codes)
        variance = (x_ND - x_ND.mean(0)).pow(2).sum().clamp_min(1e-30)
        fvu = F.mse_loss(reconstruction, x_ND, reduction="sum") / variance
        self.dead.update(codes.indices, codes.values.detach())
        if number % _DEAD_EVERY == 0:
            self.dead_indices = self.dead.indices()
        coefficient = self.sae.spec.aux_coefficient
        auxk = torch.zeros((), device=x_ND.device)
        if coefficient and len(self.dead_indices):
            residual = x_ND - reconstruction.detach()
            auxk = auxk_loss(self.sae, x_ND, residual, self.dead_indices, self.sae.spec.aux_k)
        loss = fvu + coefficient * auxk
        loss.backward()  # type: ignore[no-untyped-call]
        self._update(rate)
        with torch.no_grad():
            newest = torch.stack(
                [fvu.float(), codes.l0().float().mean(), loss.float(), auxk.float()]
            )
            self.averages.lerp_(newest, max(_SMOOTHING, 1 / (number + 1)))

    def _update(self, rate: float) -> None:
        self.sae.project_decoder_gradient()
        nn.utils.clip_grad_norm_(self.parameters, self.spec.gradient_clip)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if not self.frozen_decoder:
            self.sae.normalise_decoder()

    def readings(self) -> dict[str, float]:
        """Running means over the last (about fifty) batches, and the share of dead latents now.

        Waits for the device.  Raises ``MonosemyError`` when the loss is no number any more.
        """
        values = dict(zip(_READINGS, self.averages.tolist(), strict=True))
        if not all(math.isfinite(value) for value in values.values()):
            raise MonosemyError(
                "Training diverged: the loss is no number any more.",
                "Use a smaller training.learning_rate.",
            )
        return {**values, "dead_share": float(self.dead.mask().float().mean())}

    def state(self, prefix: str) -> dict[str, Tensor]:
        """Weights, moments and counters as flat tensors, for a checkpoint."""
        tensors = {f"{prefix}.sae.{name}": value for name, value in self.sae.state_dict().items()}
        tensors[f"{prefix}.silent_for"] = self.dead.silent_for
        tensors[f"{prefix}.dead_indices"] = self.dead_indices
        tensors[f"{prefix}.averages"] = self.averages
        for i, slots in self.optimiser.state_dict()["state"].items():
            for name, value in slots.items():
                tensors[f"{prefix}.adam.{i}.{name}"] = torch.as_tensor(value)
        return tensors

    def restore(self, prefix: str, tensors: dict[str, Tensor]) -> None:
        """Takes back what ``state`` gave; ``DataError`` if it is that of another SAE."""
        try:
            weights = {name: tensors[f"{prefix}.sae.{name}"] for name in self.sae.state_dict()}
            self.sae.load_state_dict(weights)
            self.dead.silent_for.copy_(tensors[f"{prefix}.silent_for"])
            self.averages.copy_(tensors[f"{prefix}.averages"])
            self.dead_indices = tensors[f"{prefix}.dead_indices"].to(self.sae.device)
        except (KeyError, RuntimeError) as error:
            raise DataError(f"The checkpoint does not fit this SAE: {error}.") from None
        slots: dict[int, dict[str, Any]] = {}
        for name, value in tensors.items():
            if name.startswith(f"{prefix}.adam."):
                number, slot = name.removeprefix(f"{prefix}.adam.").split(".")
                # The moments take the parameter's memory layout, which a file does not keep.
                like = self.parameters[int(number)]
                kept = torch.empty_like(like).copy_(value) if value.dim() else value.clone()
                slots.setdefault(int(number), {})[slot] = kept
        state = self.optimiser.state_dict()
        state["state"] = slots
        self.optimiser.load_state_dict(state)
