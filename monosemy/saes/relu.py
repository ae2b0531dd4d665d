"""ReLU SAE (Bricken et al. 2023): sparse by a penalty on its activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from monosemy.saes import saelens_keys
from monosemy.saes.auxk import auxk_terms
from monosemy.saes.base import StepInfo, TrainingPass
from monosemy.saes.codes import Codes
from monosemy.saes.penalised import START_L0, PenalisedSAE, typical_norm
from monosemy.saes.selection import above_threshold
from monosemy.saes.sparsity_control import L0Controller
from monosemy.specs import ReLUFamilySpec, ReLUSpec

_TANH_SLOPE = 4.0
"""Activations above a quarter of the typical norm per root of target L0 count as whole ones."""


class ReLUSAE(PenalisedSAE):
    """``codes = relu((x - b_dec) @ W_enc + b_enc)``; decoder rows have unit length, so the penalty
    is on activations alone."""

    spec: ReLUFamilySpec

    def __init__(self, spec: ReLUFamilySpec, d_in: int, d_out: int | None = None) -> None:
        super().__init__(spec, d_in, d_out)
        self.control = L0Controller(spec.target_l0, spec.sparsity_coefficient)

    @torch.no_grad()
    def begin(self, x_ND: Tensor) -> None:
        if self.spec.target_l0 is not None:
            start_l0 = min(START_L0 * self.spec.target_l0, self.d_sae / 2)
            self.b_enc.fill_(-self.level(x_ND, start_l0))

    def encode(self, x_ND: Tensor, budget: int | float | None = None) -> Codes:
        """``budget``: at most so many latents, the largest."""
        centred = self.encoder_input(x_ND)
        zero = torch.zeros((), device=x_ND.device)
        dtype = self.product_dtype or self.W_enc.dtype
        indices, values = above_threshold(centred, self.W_enc, self.b_enc, zero, dtype)
        return self.bounded(self.with_gradient(centred, indices, values), budget)

    def training_pass(self, x_ND: Tensor, target_ND: Tensor, info: StepInfo) -> TrainingPass:
        pre = self.pre_activations(x_ND, self.b_enc, torch.zeros((), device=x_ND.device))
        acts = pre.values.relu()
        reconstruction = self.reconstruction(pre, acts, x_ND)
        residual = target_ND - reconstruction.detach()
        terms = auxk_terms(self, self.spec, x_ND, residual, info.dead)
        result = self.passed(reconstruction, pre, acts, terms)
        size = acts / typical_norm(target_ND, self.group)
        if self.spec.penalty == "tanh":
            size = torch.tanh(_TANH_SLOPE * size)
        terms["sparsity"] = self.control.weight(self.group.mean(result.l0)) * pre.per_token(size)
        return result

    @torch.no_grad()
    def calibrate(self, x_ND: Tensor) -> None:
        """Moves all biases by what gives these tokens the wanted L0 on average."""
        if self.spec.target_l0 is not None:
            self.b_enc.sub_(self.surplus(x_ND, self.b_enc, self.spec.target_l0))

    def saelens_export(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return saelens_keys.exported(self, "standard", {})

    @classmethod
    def saelens_import(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        return saelens_keys.imported(cls, ReLUSpec, config, tensors)
