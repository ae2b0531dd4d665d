"""The options of every SAE architecture, one class each; importable without torch.

``implementation`` names the class in ``monosemy/saes`` that computes with them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from monosemy.specs.part import LARGE, MOST_LATENTS, MOST_TOKENS, NAME, Site, added_later
from monosemy.specs.references import Plain
from monosemy.specs.registry import Registered, Registry, register

if TYPE_CHECKING:
    from monosemy.specs.hooks import Hooks

ARCHITECTURES: Registry[SAESpec] = Registry("architecture", "architecture", "topk")
"""The options' class of every architecture, those of plugins included."""


class SAESpec(Registered):
    """What all architectures share; any of them where it is the type of a field."""

    registry: ClassVar = ARCHITECTURES
    saelens_name: ClassVar[str | None] = None
    """What SAELens calls an SAE that is imported as this."""
    saelens_transcoders: ClassVar[tuple[str, ...]] = ()
    """What it calls those that write elsewhere than they read."""
    reads_versions: ClassVar[tuple[str, ...]] = ()
    """Earlier versions of a plugin whose SAEs compute the same under this one."""

    architecture: Annotated[str, Plain(), Field(max_length=NAME)]
    """How activations become codes."""
    d_sae: int = Field(4096, ge=2, le=MOST_LATENTS)
    """Number of latents."""
    dead_after_tokens: int = Field(200_000, ge=1, le=MOST_TOKENS)
    """Tokens without firing after which a latent counts as dead."""

    @property
    def only_where_it_reads(self) -> str | None:
        """Why such an SAE cannot write elsewhere than it reads; None where it can."""
        return None

    @property
    def only_elsewhere(self) -> tuple[str, ...]:
        """Options that are set and mean something only where it writes elsewhere than it reads."""
        return ()

    def at_places(self, hooks: Hooks) -> Self:
        """The same options for an SAE that reads and writes there; ``ValueError`` where none
        can."""
        if hooks.transcodes and self.only_where_it_reads is not None:
            raise ValueError(
                f"writes is another place than is read, but {self.only_where_it_reads}"
            )
        return self

    def weights(self, latents: int, d_read: int, d_written: int) -> tuple[int, int]:
        """Numbers in the encoder and in the decoder of so many latents."""
        return latents * d_read, latents * d_written

    def check_resampling(self) -> None:
        """``ValueError`` unless its dead latents can start anew."""

    def check_split(self, parts: int) -> None:
        """``ValueError`` unless its latents can be divided over so many processes."""
        del parts
        raise ValueError(
            "training.split=dictionary is for topk without ista_steps and without options of "
            "transcoders"
        )


class TranscodingSpec(SAESpec):
    """What the architectures share that can transcode: write elsewhere than they read.  There the
    decoder's transpose is no start for the encoder, as the spaces differ."""

    skip: bool = added_later(False)
    """Of a transcoder: add a learned linear map of the input to the output, which starts at 0
    (Paulo et al. 2025)."""
    initial_encoder: Literal["unit", "uniform"] = added_later("unit")
    """Of a transcoder: how its encoder starts.  ``unit``: random columns of length 1; ``uniform``:
    numbers up to 1 / sqrt(d_sae) in size (Anthropic's cross-layer transcoders)."""
    initial_decoder: Literal["random", "mlp"] = added_later("random")
    """Of a transcoder: how its decoder starts.  ``random``: unit rows; ``mlp``: what the neurons of
    the host's MLP write at that place, in random order and at unit length, and random rows where
    there are more latents than neurons.  The frozen-decoder baseline stays random."""
    initial_rate: float | None = added_later(None, gt=0, lt=1)
    """Of a transcoder: share of tokens on which each latent's pre-activation starts positive (or
    above its threshold), by its bias.  None leaves biases to the architecture."""

    @property
    def only_elsewhere(self) -> tuple[str, ...]:
        names = TranscodingSpec.model_fields.keys() - SAESpec.model_fields.keys()
        return tuple(
            sorted(
                name
                for name in names
                if getattr(self, name) != type(self).model_fields[name].default
            )
        )


class AuxKSpec(TranscodingSpec):
    """What the architectures share that revive dead latents by AuxK."""

    aux_k: int | None = Field(None, ge=1, le=MOST_LATENTS)
    """Dead latents used by the auxiliary loss; None takes half of d_in."""
    aux_coefficient: float = Field(1 / 32, ge=0, le=LARGE)
    """Weight of the auxiliary loss, which is normalised by the residual's variance."""


def _whole_where_it_is(k: float) -> float:
    return int(k) if k == int(k) else k


WholeBudget = Annotated[int, Field(ge=1, le=MOST_LATENTS)]
Budget = Annotated[
    int | float,
    Field(gt=0, le=MOST_LATENTS),
    AfterValidator(_whole_where_it_is),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": MOST_LATENTS}),
]
"""Active latents per token, on average: where tokens share a budget it need not be whole."""


class TopKFamilySpec(AuxKSpec):
    """What the architectures share that keep the largest pre-activations."""

    k: Budget = 32
    """Active latents per token."""
    k_start: int | None = Field(None, ge=1, le=MOST_LATENTS)
    """k at the first step, from which it moves linearly to ``k``; None keeps ``k`` throughout."""
    k_anneal_fraction: float = Field(1.0, gt=0, le=1)
    """Share of the steps over which k moves from ``k_start`` to ``k``."""
    ista_steps: int = Field(0, ge=0, le=8)
    """Refinement steps: encode what the codes missed, add it to the pre-activations, select anew.
    Each costs a decode and a dense product."""
    ista_step_size: float = Field(0.3, gt=0, le=2)
    """Weight of what a refinement step adds."""

    @property
    def only_where_it_reads(self) -> str | None:
        return "ista_steps encode what the codes missed of the input" if self.ista_steps else None

    @model_validator(mode="after")
    def _k_fits(self) -> TopKFamilySpec:
        for name in ("k", "k_start"):
            value = getattr(self, name)
            if value is not None and value > self.d_sae:
                raise ValueError(f"{name} ({value}) is larger than d_sae ({self.d_sae})")
        return self


@register
class TopKSpec(TopKFamilySpec):
    """The k largest positive pre-activations of each token (Gao et al. 2024)."""

    implementation = "monosemy.saes.topk:TopKSAE"
    saelens_name = "topk"
    architecture: Literal["topk"] = "topk"
    k: WholeBudget = 32
    """Active latents per token."""

    def check_split(self, parts: int) -> None:
        if self.ista_steps or self.only_elsewhere:
            super().check_split(parts)
        if self.d_sae % parts or max(self.k, self.k_start or 0) > self.d_sae // parts:
            raise ValueError(
                f"d_sae ({self.d_sae}) must divide over {parts} devices into parts of at least k"
                " latents"
            )


class BatchTopKFamilySpec(TopKFamilySpec):
    """What the architectures share that select over a whole batch: ``k`` need not be whole."""

    threshold_decay: float = Field(0.99, ge=0, lt=1)
    """Decay per step of the running mean of the smallest activation that was kept."""


@register
class BatchTopKSpec(BatchTopKFamilySpec):
    """The ``k * n`` largest of a batch of n tokens; a threshold at inference (Bussmann 2024)."""

    implementation = "monosemy.saes.batchtopk:BatchTopKSAE"
    saelens_name = "batchtopk"
    architecture: Literal["batchtopk"] = "batchtopk"


@register
class MatryoshkaSpec(BatchTopKFamilySpec):
    """BatchTopK whose first latents reconstruct alone as well (Bussmann et al. 2025)."""

    implementation = "monosemy.saes.matryoshka:MatryoshkaSAE"
    saelens_name = "matryoshka_batchtopk"
    architecture: Literal["matryoshka"] = "matryoshka"
    prefixes: list[Annotated[int, Field(ge=1, le=MOST_LATENTS)]] | None = Field(None, max_length=64)
    """Inner widths, rising; None takes a sixteenth, a quarter and a half of d_sae."""
    inner_weight: float = Field(1.0, gt=0, le=LARGE)
    """Weight of each inner prefix's FVU beside that of the whole."""
    detach_levels: bool = False
    """Keep the error of a prefix from the latents of those before it, which have their own."""
    sort_by_frequency: bool = False
    """Take for a prefix not the first latents but those that fire most."""
    frequency_decay: float = Field(0.99, ge=0, lt=1)
    """Decay per step of the running firing rates by which they are sorted."""

    @model_validator(mode="after")
    def _prefixes_rise(self) -> MatryoshkaSpec:
        widths = self.prefixes
        if widths is not None:
            rising = all(a < b for a, b in pairwise(widths))
            if not widths or not rising or widths[-1] >= self.d_sae:
                raise ValueError("prefixes must rise and stay below d_sae")
        return self


@register
class MatchingPursuitSpec(SAESpec):
    """Latents picked one at a time, each from what the ones before left (Costa et al. 2025)."""

    implementation = "monosemy.saes.matching_pursuit:MatchingPursuitSAE"
    saelens_name = "matching_pursuit"
    architecture: Literal["matching_pursuit"] = "matching_pursuit"
    k: int = Field(32, ge=1, le=MOST_LATENTS)
    """Picks per token."""
    residual_stop: float | None = Field(None, gt=0, lt=1)
    """Stop at a token when what is left is so small a share of ``|x - b_dec|``; None never."""
    residual_floor: float | None = Field(None, gt=0, le=LARGE)
    """Stop at a token when what is left is shorter than this, in units of the activations; None
    never.  For SAEs trained elsewhere: it means another sparsity wherever activations are larger.
    """
    stop_on_repeat: bool = False
    """Stop at a token when a latent is picked again, as SAELens does by default."""
    aux_k: int = Field(4, ge=1, le=MOST_LATENTS)
    """Picks per token that dead latents make of what the living ones left (auxiliary loss)."""
    aux_coefficient: float = Field(1 / 32, ge=0, le=LARGE)
    """Weight of the auxiliary loss, which is normalised by the residual's variance."""

    @property
    def only_where_it_reads(self) -> str | None:
        return "a pursuit encodes with the decoder's own rows"


class PenalisedSpec(TranscodingSpec):
    """What the architectures share whose sparsity comes from a penalty."""

    target_l0: float | None = Field(32.0, gt=0, le=MOST_LATENTS)
    """Mean active latents per token to which a controller adjusts the penalty's weight, and to
    which the biases are moved on training tokens at the end; None keeps the weight at
    ``sparsity_coefficient``."""
    sparsity_coefficient: float = Field(1e-2, gt=0, le=LARGE)
    """Weight of the penalty, or where the controller starts."""


class ReLUFamilySpec(PenalisedSpec, AuxKSpec):
    """What the architectures share that a penalty keeps sparse and nothing else."""

    penalty: Literal["l1", "tanh"] = "l1"
    """``l1``: activation times decoder norm; ``tanh``: saturates, so that large ones shrink
    less."""


@register
class ReLUSpec(ReLUFamilySpec):
    """ReLU with a sparsity penalty (Bricken et al. 2023)."""

    implementation = "monosemy.saes.relu:ReLUSAE"
    saelens_name = "standard"
    saelens_transcoders = ("transcoder", "skip_transcoder")
    architecture: Literal["relu"] = "relu"


@register
class GatedSpec(PenalisedSpec):
    """A gate decides which latents fire, a magnitude path how much (Rajamanoharan et al. 2024)."""

    implementation = "monosemy.saes.gated:GatedSAE"
    saelens_name = "gated"
    architecture: Literal["gated"] = "gated"


class JumpReLUFamilySpec(AuxKSpec):
    """What the architectures share that have one learned threshold per latent."""

    target_l0: float = Field(32.0, gt=0, le=MOST_LATENTS)
    """Mean active latents per token.  With ``sparsity`` ``target``, all thresholds are moved
    together after every step by how far L0 is from it, and at the end to it on training tokens;
    otherwise what the sparsity loss is measured in.  Above the width of the activations it may not
    be reached."""
    sparsity: Literal["target", "step", "tanh", "steered"] = "target"
    """``target``: squared relative distance of L0 from ``target_l0``; ``step``: L0 itself, as a
    share of ``target_l0``; ``tanh``: the same with a saturating count of activations; ``steered``:
    that with its weight adjusted so that L0 comes to ``target_l0``."""
    sparsity_coefficient: float = Field(1.0, gt=0, le=LARGE)
    """Weight of the sparsity loss, or where it starts if it is adjusted."""
    bandwidth: float = Field(0.1, gt=0, le=LARGE)
    """Width of the window through which thresholds receive gradient, in units of pre-activations
    (inputs have norm ``sqrt(d_in)`` on average)."""
    straight_through: bool = added_later(False)
    """Let pre-activations take gradient through that window too, not thresholds alone (Anthropic
    2025).  Meant for ``tanh`` and ``steered`` with a wide window, as a ``bandwidth`` of 2; with
    ``target``, which raises thresholds far above it, SAEs become worse (docs/quality.md)."""
    initial_threshold: float = Field(1.0, gt=0, le=LARGE)
    """Every threshold at the start; training raises it so that L0 starts near four times its
    target."""
    pre_act_coefficient: float = Field(3e-6, ge=0, le=LARGE)
    """Weight of the loss that lifts dead latents towards their thresholds (Anthropic 2025)."""


@register
class JumpReLUSpec(JumpReLUFamilySpec):
    """One learned threshold per latent (Rajamanoharan et al. 2024b)."""

    implementation = "monosemy.saes.jumprelu:JumpReLUSAE"
    saelens_name = "jumprelu"
    saelens_transcoders = ("jumprelu_transcoder", "jumprelu_skip_transcoder")
    architecture: Literal["jumprelu"] = "jumprelu"


@register
class TranscoderSpec(TopKFamilySpec):
    """TopK that writes elsewhere, as ``topk`` with the run's ``writes`` does; the older word."""

    implementation = "monosemy.saes.transcoder:TranscoderSAE"
    architecture: Literal["transcoder"] = "transcoder"
    k: WholeBudget = 32
    """Active latents per token."""
    target_site: Site | None = Field(None, json_schema_extra={"deprecated": True})
    """The older word for the run's ``writes``; None takes that."""
    skip: bool = False
    """Add a learned linear map of the input to the output, which starts at 0."""

    @model_validator(mode="after")
    def _no_refinement(self) -> TranscoderSpec:
        if self.ista_steps:
            raise ValueError("a transcoder has no ista_steps: its codes do not encode its input")
        return self
