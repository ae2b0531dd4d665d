"""BatchTopK SAE (Bussmann et al. 2024, arXiv 2412.06410): the k * n largest of a batch.

Tokens share one budget in training; at inference a latent fires above one global threshold, so that
a token's codes do not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from monosemy.saes import saelens_keys
from monosemy.saes.base import Moment
from monosemy.saes.codes import Codes
from monosemy.saes.selection import above_threshold, batch_top_k
from monosemy.saes.topk import TopKSAE, k_at, refuse_refinement
from monosemy.specs import BatchTopKFamilySpec, BatchTopKSpec

_GUESS = 0.7
"""Of the running threshold: a batch's own is rarely lower, and if it is nothing is lost."""


class BatchTopKSAE(TopKSAE):
    """Buffers, one entry per selection (one, and one per refinement step), float64:

    ``smallest`` is the decaying sum of each batch's smallest kept activation and ``weight`` that of
    ones, so that their ratio is a running mean without the bias of one that starts at 0;
    ``threshold`` is what inference uses once ``calibrate`` has set it, -1 before.
    """

    spec: BatchTopKFamilySpec

    def __init__(self, spec: BatchTopKFamilySpec, d_in: int, d_out: int | None = None) -> None:
        super().__init__(spec, d_in, d_out)
        selections = spec.ista_steps + 1
        for name, value in (("smallest", 0.0), ("weight", 0.0), ("threshold", -1.0)):
            start = torch.full((selections,), value, dtype=torch.float64)
            self.register_buffer(name, start)
        self.smallest: Tensor
        self.weight: Tensor
        self.threshold: Tensor

    def running_threshold(self) -> Tensor:
        """Mean of the smallest activations kept, ``[selections]``; 0 before the first batch."""
        return torch.where(self.weight > 0, self.smallest / self.weight.clamp_min(1e-300), 0.0)

    def encode(self, x_ND: Tensor, budget: int | float | None = None) -> Codes:
        """``budget``: an int is a k for every token, a float another threshold."""
        if isinstance(budget, int):
            return self.top(x_ND, budget)
        if budget is not None and budget < 0:
            raise ValueError(f"a budget of {budget} is no threshold: it must not be negative")
        calibrated = torch.where(self.threshold >= 0, self.threshold, self.running_threshold())

        def select(z_ND: Tensor, step: int) -> Codes:
            limit = calibrated[step].float()
            if budget is not None and step == self.spec.ista_steps:
                limit = torch.full_like(limit, budget)
            found = above_threshold(z_ND, self.W_enc, self.b_enc, limit, self.multiplied_in)
            return self.with_gradient(z_ND, *found)

        return self.refine(x_ND, select)

    def training_codes(self, x_ND: Tensor, moment: Moment) -> Codes:
        total = k_at(self.spec, moment) * len(x_ND)
        guess = self.running_threshold() * _GUESS

        def select(z_ND: Tensor, step: int) -> Codes:
            bound = float(guess[step]) or None
            found = batch_top_k(z_ND, self.W_enc, self.b_enc, total, self.multiplied_in, bound)
            self._note(found[1], step)
            return self.with_gradient(z_ND, *found)

        return self.refine(x_ND, select)

    @torch.no_grad()
    def _note(self, values: Tensor, step: int) -> None:
        """Takes the batch's smallest kept activation into the running mean."""
        least = torch.where(values > 0, values, torch.inf).min().double()
        decay = self.spec.threshold_decay
        found = least.isfinite()
        self.smallest[step] = self.smallest[step] * decay + torch.where(found, least, 0.0) * (
            1 - decay
        )
        self.weight[step] = self.weight[step] * decay + found.double() * (1 - decay)

    @torch.no_grad()
    def calibrate(self, x_ND: Tensor) -> None:
        """Sets the thresholds at which these tokens have k active latents on average."""
        used, self.product_dtype = self.product_dtype, None
        total = self.spec.k * len(x_ND)

        def select(z_ND: Tensor, step: int) -> Codes:
            found = batch_top_k(z_ND, self.W_enc, self.b_enc, total, self.multiplied_in)
            least = torch.where(found[1] > 0, found[1], torch.inf).min()
            if least.isfinite():
                # The smallest one itself shall pass.
                self.threshold[step] = torch.nextafter(least, torch.zeros_like(least)).double()
            return Codes(*found)

        self.refine(x_ND, select)
        self.product_dtype = used

    @torch.no_grad()
    def rescale(self, input_factor: float, output_factor: float) -> None:
        super().rescale(input_factor, output_factor)
        self.smallest.div_(input_factor)
        self.threshold.copy_(
            torch.where(self.threshold >= 0, self.threshold / input_factor, self.threshold)
        )

    def saelens_export(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """As SAELens' own inference form: a JumpReLU SAE with one threshold for all."""
        refuse_refinement(self.spec)
        limit = torch.where(self.threshold >= 0, self.threshold, self.running_threshold())
        weights = {name: getattr(self, name) for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
        threshold = limit.float().expand(self.d_sae).clone()
        return (
            {"architecture": "jumprelu", **saelens_keys.CENTRED},
            {**weights, "threshold": threshold},
        )

    @classmethod
    def saelens_import(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """SAELens' training file, whose threshold is one number; its inference file is a jumprelu
        folder and is read as one."""
        saelens_keys.require(config, saelens_keys.CENTRED | {"rescale_acts_by_decoder_norm": False})
        spec = saelens_keys.checked_spec(BatchTopKSpec, d_sae=config["d_sae"], k=int(config["k"]))
        weights = {name: value for name, value in tensors.items() if name != "topk_threshold"}
        weights["threshold"] = tensors["topk_threshold"].double().reshape(1)
        return saelens_keys.filled(cls, spec, weights, config["d_in"])
