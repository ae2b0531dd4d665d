"""Gated SAE (Rajamanoharan et al. 2024, arXiv 2404.16014): what fires, and how much, apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from monosemy.errors import DataError
from monosemy.saes import saelens_keys
from monosemy.saes.base import StepInfo, TrainingPass
from monosemy.saes.codes import Codes
from monosemy.saes.penalised import START_L0, PenalisedSAE, typical_norm
from monosemy.saes.ragged import entry_sums
from monosemy.saes.selection import above_threshold
from monosemy.saes.sparsity_control import L0Controller
from monosemy.specs import GatedSpec


class GatedSAE(PenalisedSAE):
    """``gate = (x - b_dec) @ W_enc + b_gate``, ``magnitude = (x - b_dec) @ W_enc * exp(r_mag) +
    b_mag``; codes are ``relu(magnitude)`` where ``gate > 0``.

    The gate learns by its own reconstruction through the decoder, which takes no gradient from it
    (section 3.2 of the paper), and carries the penalty.
    """

    spec: GatedSpec

    def __init__(self, spec: GatedSpec, d_in: int, d_out: int | None = None) -> None:
        super().__init__(spec, d_in, d_out)
        del self.b_enc
        self.b_gate = nn.Parameter(torch.zeros(spec.d_sae))
        self.b_mag = nn.Parameter(torch.zeros(spec.d_sae))
        self.r_mag = nn.Parameter(torch.zeros(spec.d_sae))
        self.control = L0Controller(spec.target_l0, spec.sparsity_coefficient)

    def latent_parameters(self) -> list[tuple[nn.Parameter, int]]:
        own = (self.b_gate, self.b_mag, self.r_mag)
        return [*super().latent_parameters(), *((each, 0) for each in own)]

    def initialise(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            skip = self.skip_matrix()
            for start in (self.b_gate, self.b_mag, self.r_mag, self.b_dec, skip):
                if start is not None:
                    start.zero_()
            self.initialise_directions(generator)

    @torch.no_grad()
    def begin(self, x_ND: Tensor) -> None:
        if self.spec.target_l0 is not None:
            start_l0 = min(START_L0 * self.spec.target_l0, self.d_sae / 2)
            self.b_gate.fill_(-self.level(x_ND, start_l0))

    def encoder_rows(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Of the magnitudes, which are what an open gate lets through."""
        scale_F = self.r_mag[latents].exp().detach()
        return self.W_enc.T[latents].detach() * scale_F[:, None], self.b_mag[latents].detach()

    def encode(self, x_ND: Tensor, budget: int | float | None = None) -> Codes:
        """``budget``: at most so many latents, the largest.  No gradient."""
        zero = torch.zeros((), device=x_ND.device)
        dtype = self.product_dtype or self.W_enc.dtype
        centred = self.centre(x_ND)
        with torch.no_grad():
            indices, gate = above_threshold(centred, self.W_enc, self.b_gate, zero, dtype)
            product = gate - self.b_gate[indices]
            magnitude = product * self.r_mag.exp()[indices] + self.b_mag[indices]
            values = torch.where(gate > 0, magnitude.relu(), 0.0)
        return self.bounded(Codes(indices, values), budget)

    def training_pass(self, x_ND: Tensor, target_ND: Tensor, info: StepInfo) -> TrainingPass:
        del info
        # Behind a closed gate there is neither a value nor a gradient.
        pre = self.pre_activations(x_ND, torch.zeros_like(self.b_gate), -self.b_gate.detach())
        gate = pre.values + pre.of_latents(self.b_gate)
        scale, bias = pre.of_latents(self.r_mag.exp()), pre.of_latents(self.b_mag)
        acts = torch.where(gate > 0, (pre.values * scale + bias).relu(), 0.0)
        terms: dict[str, Tensor] = {}
        result = self.passed(self.reconstruction(pre, acts, x_ND), pre, acts, terms)
        soft = gate.relu()
        with self.reduced_precision(x_ND):
            W_dec = self.W_dec.detach()
            if pre.entries is None:
                by_gate = soft @ W_dec
            else:
                by_gate = entry_sums(pre.entries._replace(values=soft), W_dec, pre.n)
        with torch.no_grad():
            beside = self.completed(by_gate.new_zeros((), dtype=target_ND.dtype), x_ND)
        error = by_gate.to(target_ND.dtype) + beside - target_ND
        variance = self.group.variance(target_ND).clamp_min(1e-30)
        terms["gate"] = error.pow(2).sum() / variance
        size = pre.per_token(soft) / typical_norm(target_ND, self.group)
        terms["sparsity"] = self.control.weight(self.group.mean(result.l0)) * size
        return result

    @torch.no_grad()
    def calibrate(self, x_ND: Tensor) -> None:
        """Moves all gates by what gives these tokens the wanted L0 on average."""
        if self.spec.target_l0 is not None:
            self.b_gate.sub_(self.surplus(x_ND, self.b_gate, self.spec.target_l0))

    def shift_pre_activations(self, by_F: Tensor) -> None:
        self.b_gate.add_(by_F)
        self.b_mag.add_(by_F * self.r_mag.exp())

    def start_firing_above(self, product_F: Tensor) -> None:
        self.b_gate.copy_(-product_F)

    def rescale_codes(self, unit: float) -> None:
        for bias in (self.b_gate, self.b_mag):
            bias.div_(unit)

    def saelens_export(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        if self.transcodes:
            raise DataError(
                "SAELens has no gated transcoder: its transcoders are ReLU or JumpReLU."
            )
        names = ("W_enc", "b_gate", "b_mag", "r_mag", "W_dec", "b_dec")
        weights = {name: getattr(self, name) for name in names}
        return {"architecture": "gated", **saelens_keys.CENTRED}, weights

    @classmethod
    def saelens_import(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        saelens_keys.require(config, saelens_keys.CENTRED)
        spec = saelens_keys.checked_spec(GatedSpec, d_sae=config["d_sae"])
        return saelens_keys.filled(cls, spec, tensors, config["d_in"])
