"""Crosscoders: one dictionary of what several places, or host models, have in common and what not
(Lindsey et al. 2024; BatchTopK: Minder et al. 2025, arXiv 2504.02922).

A latent counts by ``sum over places m of |d_m|``, where the others take the length of the whole
row: with that, one of one place alone costs less than one of several that says as much.  Rows are
kept at ``sum |d_m| = sqrt(places)``, so activations are in that measure already: what is selected,
or penalised, is the activation itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Self

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.saes.base import SAE, Factor
from monosemy.saes.batchtopk import BatchTopKSAE
from monosemy.saes.relu import ReLUSAE
from monosemy.specs import CrosscoderSpec, L1CrosscoderSpec, SAESpec
from monosemy.specs.latent_classes import LatentClass, class_of
from monosemy.specs.places import CrosscoderOptions


class Crosscoder(SAE):
    """Stands before an architecture among the bases of a class.

    Buffer ``written_scale [d_out]``: what the places were multiplied by in training, by which the
    norms at different places are comparable after the scales have been folded in.
    """

    def __init__(self, spec: SAESpec, d_in: int, d_out: int | None = None) -> None:
        super().__init__(spec, d_in, d_out)
        assert isinstance(spec, CrosscoderOptions)
        self.places = spec.places or 1
        if self.d_out % self.places:
            raise ValueError(f"d_out ({self.d_out}) does not divide by {self.places} places")
        self.register_buffer("written_scale", torch.ones(self.d_out))
        self.written_scale: Tensor

    @torch.no_grad()
    def block_norms(self) -> Tensor:
        """Length of what each latent writes at each place, in the unit that training gave the
        place, ``[d_sae, places]``."""
        return (self.W_dec * self.written_scale).unflatten(1, (self.places, -1)).norm(dim=2)

    def relative_norms(self) -> Tensor:
        """The same as shares of each latent's largest."""
        norms = self.block_norms()
        return norms / norms.amax(1, keepdim=True).clamp_min(1e-30)

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        total = self._blocks().norm(dim=2).sum(1, keepdim=True)
        self.W_dec.mul_(float(self.places) ** 0.5 / total.clamp_min(1e-12))

    @torch.no_grad()
    def project_decoder_gradient(self) -> None:
        """What is left is the gradient of the loss as a function of rows of any length, each of
        which is brought to its measure."""
        if self.W_dec.grad is None:
            return
        blocks = self._blocks()
        along_F = torch.einsum("fd,fd->f", self.W_dec.grad, self.W_dec) / float(self.places) ** 0.5
        per_block = along_F[:, None] / blocks.norm(dim=2).clamp_min(1e-12)
        self.W_dec.grad.unflatten(1, (self.places, -1)).addcmul_(
            per_block[:, :, None], blocks, value=-1
        )

    def _blocks(self) -> Tensor:
        return self.W_dec.detach().unflatten(1, (self.places, -1))

    @torch.no_grad()
    def rescale(self, input_factor: Factor, output_factor: Factor) -> None:
        super().rescale(input_factor, output_factor)
        self.written_scale.mul_(output_factor)

    def check_widths(self, reads: Sequence[int], writes: Sequence[int]) -> None:
        super().check_widths(reads, writes)
        if len(writes) != self.places or len(set(writes)) > 1:
            raise DataError(
                f"A crosscoder of {self.places} places writes as many of one width; here they are"
                f" {', '.join(map(str, writes))} wide."
            )

    def figures(self, activity_F: Tensor, places: Sequence[str]) -> dict[str, Any]:
        """``crosscoder``: of the latents that fire, how many are ``exclusive`` to each place,
        ``weak`` at some and ``shared`` by all."""
        if self.places < 2:
            return {}
        fires = (activity_F > 0).to(self.device)
        relative = self.relative_norms()[fires]
        own = relative.argmax(1)
        kinds = classes(relative)
        names = list(places) if len(places) == self.places else list(map(str, range(self.places)))
        exclusive = torch.tensor(
            [kind == LatentClass.EXCLUSIVE for kind in kinds], device=own.device
        )
        counts = torch.bincount(own[exclusive], minlength=self.places).tolist()
        return {
            "crosscoder": {
                "exclusive": dict(zip(names, counts, strict=True)),
                "weak": kinds.count(LatentClass.WEAK),
                "shared": kinds.count(LatentClass.SHARED),
            }
        }

    def saelens_export(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        self._not_in_saelens()

    @classmethod
    def saelens_import(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        del config, tensors
        cls._not_in_saelens()

    @staticmethod
    def _not_in_saelens() -> NoReturn:
        raise DataError("SAELens has no crosscoder.", "The SAE's own folder holds it.")


def classes(relative_FM: Tensor) -> list[LatentClass]:
    """The class of each latent, by its norms at each place as shares of its largest."""
    second = relative_FM.sort(dim=1, descending=True).values[:, 1]
    least = relative_FM.amin(1)
    return [class_of(*pair) for pair in zip(second.tolist(), least.tolist(), strict=True)]


def delta(relative_FM: Tensor) -> Tensor:
    """Relative norm difference of two places, ``[d_sae]``: 0 for a latent of the first alone, .5
    for one of equal norms, 1 for one of the second alone (Lindsey et al. 2024)."""
    if relative_FM.shape[1] != 2:
        raise ValueError("a relative norm difference is one of two places")
    return 0.5 * (1 + (relative_FM[:, 1] - relative_FM[:, 0]) / relative_FM.amax(1))


class BatchTopKCrosscoder(Crosscoder, BatchTopKSAE):
    """The ``k * n`` largest of a batch of n tokens."""

    spec: CrosscoderSpec


class L1Crosscoder(Crosscoder, ReLUSAE):
    """A penalty on activations, each of which counts by what it writes at all places."""

    spec: L1CrosscoderSpec
