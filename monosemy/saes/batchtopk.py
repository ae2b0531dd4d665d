"""BatchTopK SAE (Bussmann et al. 2024, arXiv 2412.06410): the k * n largest of a batch.

Tokens share one budget in training; at inference a latent fires above one global threshold, so that
a token's codes do not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from monosemy.saes import saelens_keys
from monosemy.saes.auxk import auxk_terms
from monosemy.saes.base import StepInfo, TrainingPass
from monosemy.saes.codes import Codes
from monosemy.saes.ista import refined
from monosemy.saes.ragged import Entries, entries_of, entry_values
from monosemy.saes.selection import above_threshold, largest_of_batch
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
            entries = above_threshold(z_ND, self.W_enc, self.b_enc, limit, self.multiplied_in)
            return self.with_gradient(z_ND, *entries)

        return self.refine(x_ND, select)

    def decode_without_bias(self, codes: Codes) -> Tensor:
        # Padded codes are mostly padding where tokens share a budget.
        return self.decoded(entries_of(codes), len(codes.values))

    def training_pass(self, x_ND: Tensor, target_ND: Tensor, info: StepInfo) -> TrainingPass:
        entries = self.training_entries(x_ND, info)
        reconstruction, terms = self.reconstruct(entries, x_ND, target_ND)
        residual = target_ND - reconstruction.detach()
        terms |= auxk_terms(self, self.spec, x_ND, residual, info.dead)
        fired_F = self.b_enc.new_zeros(self.d_sae, requires_grad=False)
        fired_F.index_add_(0, entries.latents, (entries.values > 0).to(fired_F.dtype))
        return TrainingPass(reconstruction, fired_F, fired_F.sum() / len(x_ND), terms)

    def reconstruct(
        self,
        entries: Entries,
        x_ND: Tensor,
        target_ND: Tensor,  # noqa: ARG002
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The reconstruction ``[n, d_out]``, and loss terms beside its FVU and AuxK."""
        return self.completed(self.decoded(entries, len(x_ND)), x_ND), {}

    def training_entries(self, x_ND: Tensor, info: StepInfo) -> Entries:
        """The ``k * n`` largest of the batch; takes their smallest into the running threshold."""
        guess = self.running_threshold() * _GUESS

        def select(z_ND: Tensor, step: int) -> Entries:
            entries = self.largest(z_ND, k_at(self.spec, info), float(guess[step]) or None)
            self._note(entries.values, step)
            return entry_values(entries, z_ND, self.W_enc, self.b_enc)

        return self._refine_entries(x_ND, select)

    def largest(self, z_ND: Tensor, k: float, guess: float | None = None) -> Entries:
        """The ``k * n`` largest pre-activations of the batch, those of them that are positive."""
        total = max(1, round(k * len(z_ND) * self.group.processes))
        dtype = self.multiplied_in
        entries = Entries(*largest_of_batch(z_ND, self.W_enc, self.b_enc, total, dtype, guess))
        chosen = self.group.chosen(entries.values, total)
        return entries if chosen is None else Entries(*(value[chosen] for value in entries))

    def _refine_entries(self, x_ND: Tensor, select: Callable[[Tensor, int], Entries]) -> Entries:
        spec = self.spec

        def product(entries: Entries) -> Tensor:
            return self.decoded(entries, len(x_ND))

        z_ND = self.encoder_input(x_ND)
        return refined(z_ND, spec.ista_steps, spec.ista_step_size, select, product)

    @torch.no_grad()
    def _note(self, values: Tensor, step: int) -> None:
        """Takes the batch's smallest kept activation into the running mean."""
        least, decay = self._least(values), self.spec.threshold_decay
        is_active = least.isfinite()
        smallest, weight = self.smallest[step], self.weight[step]
        self.smallest[step] = torch.where(is_active, torch.lerp(least, smallest, decay), smallest)
        self.weight[step] = torch.where(is_active, decay * weight + (1 - decay), weight)

    def _least(self, values: Tensor) -> Tensor:
        """The smallest activation kept, float64; infinite where none was."""
        least = values.min() if len(values) else values.new_tensor(torch.inf)
        return self.group.least(least.double())

    @torch.no_grad()
    def calibrate(self, x_ND: Tensor) -> None:
        """Sets the thresholds at which these tokens have k active latents on average."""
        used, self.product_dtype = self.product_dtype, None

        def select(z_ND: Tensor, step: int) -> Entries:
            entries = self.largest(z_ND, self.spec.k)
            least = self._least(entries.values).float()
            # The smallest one itself shall pass.
            below = torch.nextafter(least, torch.zeros_like(least)).double()
            self.threshold[step] = torch.where(least.isfinite(), below, self.threshold[step])
            return entries

        self._refine_entries(x_ND, select)
        self.product_dtype = used

    def rescale_codes(self, unit: float) -> None:
        super().rescale_codes(unit)
        self.smallest.div_(unit)
        self.threshold.copy_(
            torch.where(self.threshold >= 0, self.threshold / unit, self.threshold)
        )

    def saelens_export(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """As SAELens' own inference form: a JumpReLU one with one threshold for all."""
        refuse_refinement(self.spec)
        return saelens_keys.exported(self, "jumprelu", {"threshold": self.thresholds()})

    def thresholds(self) -> Tensor:
        """What inference without refinement compares with, the same for each latent,
        ``[d_sae]``."""
        limit = torch.where(self.threshold >= 0, self.threshold, self.running_threshold())
        return limit.float().expand(self.d_sae).clone()

    @classmethod
    def saelens_import(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """SAELens' training file, whose threshold is one number; its inference file is a jumprelu
        folder and is read as one."""
        spec = saelens_keys.checked_spec(BatchTopKSpec, d_sae=config["d_sae"], k=int(config["k"]))
        return saelens_keys.filled(cls, spec, training_weights(config, tensors), config["d_in"])


def training_weights(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of a BatchTopK SAE out of the tensors of SAELens' training file."""
    saelens_keys.require(config, saelens_keys.CENTRED | {"rescale_acts_by_decoder_norm": False})
    weights = {name: value for name, value in tensors.items() if name != "topk_threshold"}
    return {**weights, "threshold": tensors["topk_threshold"].double().reshape(1)}
