"""The options of the architectures that are made for several places: cross-layer transcoders and
crosscoders.  Importable without torch."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from monosemy.specs.architectures import (
    BatchTopKFamilySpec,
    JumpReLUFamilySpec,
    ReLUFamilySpec,
    SAESpec,
)
from monosemy.specs.hooks import MOST_PLACES, Hook, Hooks
from monosemy.specs.registry import register


class PlacesSpec(SAESpec):
    """What they share."""

    places: int | None = Field(None, ge=1, le=MOST_PLACES)
    """Places that it writes; None takes the number of those that the run names."""


class CrossLayerOptions(PlacesSpec):
    """What cross-layer transcoders share: a layer of latents for each place that is read, which
    write the place of their own layer and those after (Ameisen et al. 2025)."""

    incremental: bool = False
    """Latents of one number share what they write, whatever layer they read: an SAE of
    ``(layers + 1) / 2`` times fewer decoder weights."""

    @model_validator(mode="after")
    def _layers_divide(self) -> Self:
        if self.places is not None and self.d_sae % self.places:
            raise ValueError(f"d_sae ({self.d_sae}) must divide by the {self.places} layers")
        if getattr(self, "ista_steps", 0):
            raise ValueError("a cross-layer transcoder has no ista_steps: its codes do not encode")
        return self

    def at_places(self, hooks: Hooks) -> Self:
        reads, writes = hooks.reads, hooks.writes
        count = self.places or len(reads)
        if len(reads) != count or len(writes) != count:
            raise ValueError(
                "a cross-layer transcoder reads and writes one place for each of its layers:"
                f" {count}, not {len(reads)} and {len(writes)}"
            )
        if hooks.other_hosts:
            raise ValueError("a cross-layer transcoder is one host model's")
        for places in (reads, writes):
            _check_order(places)
        for read, written in zip(reads, writes, strict=True):
            if written.depth < read.depth:
                raise ValueError(
                    f"{read} comes after {written}, which is to be made of it: reads and writes"
                    " must go layer by layer"
                )
        if self.d_sae % count:
            raise ValueError(f"d_sae ({self.d_sae}) must divide by the {count} layers")
        if getattr(self, "initial_decoder", "random") == "mlp":
            raise ValueError("sae.initial_decoder=mlp is for transcoders of one layer's MLP")
        return self.model_copy(update={"places": count})

    def weights(self, latents: int, d_read: int, d_written: int) -> tuple[int, int]:
        layers = self.places or 1
        encoder = latents * d_read // layers
        rows = layers if self.incremental else layers * (layers + 1) // 2
        return encoder, latents // layers * (d_written // layers) * rows

    def check_resampling(self) -> None:
        raise ValueError(
            "training.resample_every is not for cross-layer transcoders: what one misses at a layer"
            " may be any earlier layer's"
        )

    def check_split(self, parts: int) -> None:
        raise ValueError(
            "training.split=dictionary is for topk: the layers of a cross-layer transcoder are not"
            f" divided over {parts} devices; split=batch trains it on several"
        )


def _check_order(places: tuple[Hook, ...]) -> None:
    for one, other in pairwise(places):
        if other.depth < one.depth:
            raise ValueError(f"{other} comes before {one}: places must go layer by layer")


@register
class CLTSpec(CrossLayerOptions, BatchTopKFamilySpec):
    """A cross-layer transcoder whose ``k * n`` largest latents of n tokens fire, over all
    layers."""

    implementation = "monosemy.saes.clt:BatchTopKCLT"
    architecture: Literal["clt"] = "clt"


@register
class JumpReLUCLTSpec(CrossLayerOptions, JumpReLUFamilySpec):
    """A cross-layer transcoder with one threshold per latent."""

    implementation = "monosemy.saes.clt:JumpReLUCLT"
    architecture: Literal["clt_jumprelu"] = "clt_jumprelu"
    sparsity: Literal["target", "step", "tanh", "steered"] = "steered"
    """``steered``: a saturating count of activations, whose weight is adjusted so that L0 (over all
    layers) comes to ``target_l0``; ``tanh``: the same at a fixed weight, as a share of
    ``target_l0``; ``step``: L0 itself; ``target``: its squared relative distance from
    ``target_l0``."""
    sparsity_coefficient: float = Field(0.1, gt=0, le=1e30)
    """Weight of the sparsity loss, or where it starts if it is adjusted."""


class CrosscoderOptions(PlacesSpec):
    """What crosscoders share: each latent counts by the sum of the lengths of what it writes at
    each place (Lindsey et al. 2024), so that one of one place alone costs no more than its share.
    """

    def at_places(self, hooks: Hooks) -> Self:
        super().at_places(hooks)
        count = len(hooks.writes)
        if self.places not in (None, count):
            raise ValueError(f"sae.places is {self.places}, but {count} places are written")
        return self.model_copy(update={"places": count})


@register
class CrosscoderSpec(CrosscoderOptions, BatchTopKFamilySpec):
    """A crosscoder whose ``k * n`` largest latents of n tokens fire (Minder et al. 2025)."""

    implementation = "monosemy.saes.crosscoder:BatchTopKCrosscoder"
    architecture: Literal["crosscoder"] = "crosscoder"


@register
class L1CrosscoderSpec(CrosscoderOptions, ReLUFamilySpec):
    """A crosscoder that a penalty keeps sparse.  It makes latents look exclusive to one place that
    are not: see ``monosemy.evals.latent_scaling``."""

    implementation = "monosemy.saes.crosscoder:L1Crosscoder"
    architecture: Literal["crosscoder_l1"] = "crosscoder_l1"
