"""JumpReLU SAE (Rajamanoharan et al. 2024b, arXiv 2407.14435): one learned threshold per latent.

Thresholds get their gradient from a rectangular window around them (section 4 of the paper): the
true one is 0 almost everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Any, Self

import torch
from torch import Tensor, nn

from monosemy.saes import saelens_keys
from monosemy.saes.auxk import auxk_terms
from monosemy.saes.base import StepInfo, TrainingPass
from monosemy.saes.codes import Codes
from monosemy.saes.penalised import START_L0, PenalisedSAE, typical_norm
from monosemy.saes.selection import above_threshold
from monosemy.saes.sparsity_control import L0Controller, threshold_shift
from monosemy.specs import JumpReLUFamilySpec, JumpReLUSpec

_TANH_SLOPE = 4.0
_LEAST_FACTOR = 1e-3
"""Where fewer latents than wanted have anything positive, thresholds fall to next to nothing."""


class JumpReLUSAE(PenalisedSAE):
    """``codes = pre where pre > exp(log_threshold)``, ``pre = (x - b_dec) @ W_enc + b_enc``.

    The threshold is kept as its logarithm: it stays positive under any step, and steps are relative
    to its size.
    """

    spec: JumpReLUFamilySpec

    def __init__(self, spec: JumpReLUFamilySpec, d_in: int, d_out: int | None = None) -> None:
        super().__init__(spec, d_in, d_out)
        start = torch.full((spec.d_sae,), spec.initial_threshold)
        self.log_threshold = nn.Parameter(start.log())
        self._l0: Tensor | None = None
        """Of the step under way."""
        self.control: L0Controller | None = None
        if spec.sparsity == "steered":
            self.control = L0Controller(spec.target_l0, spec.sparsity_coefficient)

    @property
    def threshold(self) -> Tensor:
        """``[d_sae]``, positive."""
        return self.log_threshold.exp()

    def latent_parameters(self) -> list[tuple[nn.Parameter, int]]:
        return [*super().latent_parameters(), (self.log_threshold, 0)]

    @torch.no_grad()
    def begin(self, x_ND: Tensor) -> None:
        start_l0 = min(START_L0 * self.spec.target_l0, self.d_sae / 2)
        self.log_threshold.fill_(max(self.level(x_ND, start_l0), self.spec.initial_threshold))
        self.log_threshold.log_()

    def encode(self, x_ND: Tensor, budget: int | float | None = None) -> Codes:
        """``budget``: at most so many latents, the largest of those above their thresholds."""
        centred = self.encoder_input(x_ND)
        dtype = self.product_dtype or self.W_enc.dtype
        limit = self.threshold.detach()
        indices, values = above_threshold(centred, self.W_enc, self.b_enc, limit, dtype)
        return self.bounded(self.with_gradient(centred, indices, values), budget)

    def training_pass(self, x_ND: Tensor, target_ND: Tensor, info: StepInfo) -> TrainingPass:
        width = self.spec.bandwidth
        # Down to where the window of the threshold's gradient ends.
        least = self.threshold.detach() - width / 2
        pre = self.pre_activations(x_ND, self.b_enc, least)
        threshold = pre.of_latents(self.threshold)
        through = self.spec.straight_through
        acts: Tensor = _Jump.apply(pre.values, threshold, width, through)  # type: ignore[no-untyped-call]
        reconstruction = self.reconstruction(pre, acts, x_ND)
        residual = target_ND - reconstruction.detach()
        terms = auxk_terms(self, self.spec, x_ND, residual, info.dead)
        if self.spec.sparsity in ("tanh", "steered"):
            size = torch.tanh(_TANH_SLOPE * acts / self.tanh_unit(target_ND))
        else:
            size = _Step.apply(pre.values, threshold, width, through)  # type: ignore[no-untyped-call]
        result = self.passed(reconstruction, pre, acts, terms)
        self._l0 = self.group.mean(result.l0)
        weight: float | Tensor = self.spec.sparsity_coefficient
        if self.control is not None:
            weight = self.control.weight(self._l0)
        terms["sparsity"] = weight * self._sparsity(pre.per_token(size))
        if self.spec.pre_act_coefficient and info.dead.numel():
            terms["pre_act"] = self.spec.pre_act_coefficient * (
                self._below(x_ND, info.dead) / typical_norm(target_ND, self.group)
            )
        return result

    @torch.no_grad()
    def after_step(self) -> None:
        super().after_step()
        if self._l0 is not None and self.spec.sparsity == "target":
            self.log_threshold.add_(threshold_shift(self._l0, self.spec.target_l0))
        self._l0 = None

    @torch.no_grad()
    def calibrate(self, x_ND: Tensor) -> None:
        """Multiplies all thresholds by what gives these tokens the wanted L0 on average."""
        if self.spec.sparsity in ("target", "steered"):
            weight, bias = self.W_enc / self.threshold, self.b_enc / self.threshold
            limit = self.limit(x_ND, weight, bias, self.spec.target_l0)
            self.log_threshold.add_(log(max(limit, _LEAST_FACTOR)))

    def _sparsity(self, size: Tensor) -> Tensor:
        """The sparsity loss before its weight; 1 means about the wanted L0 in the last two."""
        if self.spec.sparsity in ("tanh", "steered"):
            return size / self.spec.target_l0
        relative = self.group.mean(size) / self.spec.target_l0
        return (relative - 1).pow(2) if self.spec.sparsity == "target" else relative

    def tanh_unit(self, target_ND: Tensor) -> Tensor:
        """What activations are measured in where a tanh counts them."""
        return typical_norm(target_ND, self.group)

    def _below(self, x_ND: Tensor, dead: Tensor) -> Tensor:
        """How far dead latents are below their thresholds, summed, the mean over tokens."""
        pre = self.dense_pre_activations(x_ND, self.b_enc, dead)
        return (self.threshold[dead] - pre).relu().sum(1).mean()

    def start_firing_above(self, product_F: Tensor) -> None:
        self.b_enc.copy_(self.threshold - product_F)

    def rescale_codes(self, unit: float) -> None:
        super().rescale_codes(unit)
        self.log_threshold.sub_(torch.tensor(unit).log())

    def saelens_export(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return saelens_keys.exported(self, "jumprelu", {"threshold": self.threshold})

    @classmethod
    def saelens_import(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        weights = {name: value for name, value in tensors.items() if name != "threshold"}
        weights["log_threshold"] = log_threshold(tensors["threshold"])
        return saelens_keys.imported(cls, JumpReLUSpec, config, weights)


def log_threshold(threshold: Tensor) -> Tensor:
    """As it is kept.  A threshold of 0, or below, is a ReLU: the smallest positive number is one as
    well."""
    return threshold.float().clamp_min(torch.finfo(torch.float32).tiny).log()


def _window(pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """1 where a pre-activation is within half a bandwidth of its threshold."""
    return ((pre - threshold).abs() < bandwidth / 2).to(pre.dtype)


def _onto(grad: Tensor, threshold: Tensor) -> Tensor:
    """The gradient of thresholds that were broadcast over tokens."""
    return grad if grad.shape == threshold.shape else grad.sum(0)


class _Jump(torch.autograd.Function):
    """``pre * (pre > threshold)``; d/d threshold = -(threshold / bandwidth) * window, and with
    ``through`` the opposite of it is added to d/d pre."""

    @staticmethod
    def forward(
        ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float, through: bool
    ) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth, ctx.through = bandwidth, through
        return pre * (pre > threshold)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        pre, threshold = ctx.saved_tensors
        near = (threshold / ctx.bandwidth) * _window(pre, threshold, ctx.bandwidth) * grads[0]
        of_pre = grads[0] * (pre > threshold)
        if ctx.through:
            of_pre = of_pre + near
        return of_pre, -_onto(near, threshold), None, None


class _Step(torch.autograd.Function):
    """``pre > threshold`` as a number; d/d threshold = -(1 / bandwidth) * window, and with
    ``through`` the opposite of it is d/d pre."""

    @staticmethod
    def forward(
        ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float, through: bool
    ) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth, ctx.through = bandwidth, through
        return (pre > threshold).to(pre.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        pre, threshold = ctx.saved_tensors
        near = _window(pre, threshold, ctx.bandwidth) * grads[0] / ctx.bandwidth
        return near if ctx.through else None, -_onto(near, threshold), None, None
