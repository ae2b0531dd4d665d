"""Matryoshka SAE (Bussmann et al. 2025, arXiv 2503.17547): prefixes of the dictionary that
reconstruct by themselves, so that the first latents stay general."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from monosemy.errors import DataError
from monosemy.saes import saelens_keys
from monosemy.saes.base import StepInfo, TrainingPass
from monosemy.saes.batchtopk import BatchTopKSAE, training_weights
from monosemy.saes.ragged import Entries, entry_sums
from monosemy.specs import MatryoshkaSpec


class MatryoshkaSAE(BatchTopKSAE):
    """BatchTopK, plus the FVU of every inner prefix in the loss.

    With ``sort_by_frequency`` prefixes are not the first latents but those that fire most: the
    buffer ``firing [d_sae]`` is a running share of tokens, and ``places`` follows from it.
    """

    spec: MatryoshkaSpec

    def __init__(self, spec: MatryoshkaSpec, d_in: int, d_out: int | None = None) -> None:
        super().__init__(spec, d_in, d_out)
        if spec.sort_by_frequency:
            self.register_buffer("firing", torch.zeros(spec.d_sae))
            self.firing: Tensor

    @property
    def prefixes(self) -> list[int]:
        """Inner widths, rising."""
        if self.spec.prefixes is not None:
            return self.spec.prefixes
        return sorted({max(1, self.d_sae // share) for share in (16, 4, 2)} - {self.d_sae})

    def places(self) -> Tensor:
        """Where each latent stands, int64 ``[d_sae]``: a prefix of width w has those below w."""
        if not self.spec.sort_by_frequency:
            return torch.arange(self.d_sae, device=self.device)
        return self.firing.argsort(descending=True, stable=True).argsort()

    def training_pass(self, x_ND: Tensor, target_ND: Tensor, info: StepInfo) -> TrainingPass:
        out = super().training_pass(x_ND, target_ND, info)
        if self.spec.sort_by_frequency:
            fired_F, tokens = self.group.sum(out.fired_F), len(x_ND) * self.group.processes
            share = fired_F.to(self.firing.dtype) / tokens
            self.firing.lerp_(share, 1 - self.spec.frequency_decay)
        return out

    def reconstruct(
        self, entries: Entries, x_ND: Tensor, target_ND: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Each level adds what its latents decode to the level before; the last is the whole."""
        variance = self.group.variance(target_ND).clamp_min(1e-30)
        *inner, last = self.decode_groups(entries, len(target_ND)).unbind(0)
        before: Tensor = self.b_dec
        if self.skip_matrix() is not None:  # every level has it
            before = self.completed(last.new_zeros(()), x_ND)
        level = before.expand_as(last)
        error = torch.zeros((), dtype=target_ND.dtype, device=target_ND.device)
        for part_ND in inner:
            level = level + part_ND
            # Detached, a group answers only for what the groups before it left.
            alone = before + part_ND if self.spec.detach_levels else level
            error = error + F.mse_loss(alone, target_ND, reduction="sum")
            before = level.detach()
        return level + last, {"prefixes": self.spec.inner_weight * error / variance}

    def decode_groups(self, entries: Entries, n: int) -> Tensor:
        """``[prefixes + 1, n, d_out]``: what the latents add that are in a prefix, but not in the
        one before.  One sparse decode: entries are sorted by group, none occurs twice."""
        with torch.no_grad():
            ends = torch.tensor(self.prefixes, device=self.device)
            group_F = torch.searchsorted(ends, self.places(), right=True)
            bags = group_F[entries.latents] * n + entries.rows
            order = bags.argsort(stable=True)
        sorted_entries = Entries(bags[order], entries.latents[order], entries.values[order])
        groups = len(self.prefixes) + 1
        return entry_sums(sorted_entries, self.W_dec, groups * n).view(groups, n, self.d_out)

    @classmethod
    def saelens_import(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """SAELens' training file; its inference file is a jumprelu folder and is read as one."""
        widths = [int(width) for width in config["matryoshka_widths"]]
        if config.get("use_matryoshka_aux_loss"):
            raise DataError("cfg.json asks for an auxiliary loss per level, which there is not.")
        spec = saelens_keys.checked_spec(
            MatryoshkaSpec,
            d_sae=config["d_sae"],
            k=int(config["k"]),
            prefixes=[width for width in widths if width != config["d_sae"]],
        )
        return saelens_keys.filled(cls, spec, training_weights(config, tensors), config["d_in"])
