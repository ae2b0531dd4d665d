"""TopK SAE (Gao et al. 2024, arXiv 2406.04093): the k largest positive pre-activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.saes import saelens_keys
from monosemy.saes.auxk import auxk_terms
from monosemy.saes.base import SAE, StepInfo, TrainingPass, fired_counts
from monosemy.saes.codes import Codes
from monosemy.saes.ista import refined
from monosemy.saes.selection import exact_top_latents, top_latents
from monosemy.specs import TopKFamilySpec, TopKSpec


class TopKSAE(SAE):
    """``codes = top_k(relu((x - b_dec) @ W_enc + b_enc))``, refined if the spec says so."""

    spec: TopKFamilySpec

    def encode(self, x_ND: Tensor, budget: int | float | None = None) -> Codes:
        """``budget`` is another k (1 to d_sae); ``ValueError`` outside of that."""
        return self.top(x_ND, self.spec.k if budget is None else budget)

    def top(self, x_ND: Tensor, k: int | float) -> Codes:
        """The k largest of each token."""
        if not isinstance(k, int) or not 1 <= k <= self.d_sae:
            raise ValueError(f"a budget of {k} is no whole number between 1 and {self.d_sae}")

        def select(z_ND: Tensor, _step: int) -> Codes:
            chosen = (z_ND, self.W_enc, self.b_enc, k)
            search = self.search_dtype if z_ND.dim() == 2 else None
            if search is not None and not torch.is_grad_enabled():
                indices, largest = exact_top_latents(*chosen, search)
            else:
                indices, largest = top_latents(*chosen, self.multiplied_in)
            largest = largest.relu_()
            chosen_NK = self.group.chosen_of_each(largest, k)
            if chosen_NK is not None:
                largest = largest * chosen_NK
            return self.with_gradient(z_ND, indices, largest)

        return self.refine(x_ND, select)

    def refine(self, x_ND: Tensor, select: Callable[[Tensor, int], Codes]) -> Codes:
        """``select`` on the encoder's input, after the spec's refinement steps."""
        spec, product = self.spec, self.decode_without_bias
        return refined(
            self.encoder_input(x_ND), spec.ista_steps, spec.ista_step_size, select, product
        )

    @property
    def multiplied_in(self) -> torch.dtype:
        return self.product_dtype or self.W_enc.dtype

    def training_pass(self, x_ND: Tensor, target_ND: Tensor, info: StepInfo) -> TrainingPass:
        codes = self.top(x_ND, k_at(self.spec, info))
        reconstruction = self.decode(codes, x_ND)
        residual = target_ND - reconstruction.detach()
        terms = auxk_terms(self, self.spec, x_ND, residual, info.dead)
        l0 = codes.l0().float().mean()
        return TrainingPass(reconstruction, fired_counts(codes, self.d_sae), l0, terms)

    def saelens_export(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        refuse_refinement(self.spec)
        if self.transcodes:
            raise DataError(
                "SAELens has no TopK transcoder: its transcoders are ReLU or JumpReLU.",
                "Export it as a sparsify folder.",
            )
        keys = {"architecture": "topk", "k": self.spec.k, "rescale_acts_by_decoder_norm": False}
        return {**keys, **saelens_keys.CENTRED}, dict(self.state_dict())

    @classmethod
    def saelens_import(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        saelens_keys.require(config, saelens_keys.CENTRED | {"rescale_acts_by_decoder_norm": False})
        spec = saelens_keys.checked_spec(TopKSpec, d_sae=config["d_sae"], k=config["k"])
        return saelens_keys.filled(cls, spec, tensors, config["d_in"])


def k_at(spec: TopKFamilySpec, info: StepInfo) -> float:
    """The k of a step: from ``k_start`` linearly to ``k``, which the last steps have exactly; whole
    where ``k`` is."""
    if spec.k_start is None:
        return spec.k
    share = min(1.0, info.step / max(1.0, spec.k_anneal_fraction * (info.total_steps - 1)))
    k = spec.k_start + (spec.k - spec.k_start) * share
    return round(k) if isinstance(spec.k, int) else k


def refuse_refinement(spec: TopKFamilySpec) -> None:
    """SAELens has no refinement steps: without them its encoder would give other codes."""
    if spec.ista_steps:
        raise DataError(
            "An SAE with ista_steps cannot be written as a SAELens folder: SAELens does not refine."
        )
