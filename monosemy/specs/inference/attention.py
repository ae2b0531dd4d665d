"""Where attention-output features read from: as the API takes and gives it, and as the inference
server does."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from monosemy.specs.inference.answer import Answer
from monosemy.specs.inference.prompts import (
    FeatureIndices,
    Prompted,
    SaeName,
    SaePlace,
    TokenText,
)
from monosemy.specs.part import Part
from monosemy.specs.parts import ModelSpec
from monosemy.specs.rest.saes import SaeSummary

MAX_ATTENTION_TOKENS = 1024
"""Of a prompt; scores are as many numbers as its square."""

MAX_THROUGH = 8
MAX_PLACES = 16
MAX_DEPTH = 6

BOS = -1
"""Stands for the BOS before a text, where tokens are numbered from 0 without it."""

PartKind = Literal[
    "source",
    "feature",
    "embedding",
    "position",
    "attention",
    "mlp",
    "block",
    "error",
    "b_enc",
    "b_dec",
    "b_V",
    "b_O",
    "norm",
    "encoder",
    "other",
    "rounding",
]
"""What a part of a sum is.  `source`: a token, through all heads; `feature`: of one of `saes`;
`embedding`, `position`, `attention`, `mlp`, `block`: what was written into the stream; `error`:
what an SAE leaves unexplained; `norm`: the shift of a norm; `encoder`: what refinement steps or a
pursuit changed after the pre-activation; `other`: smaller parts together; `rounding`: what the sum
misses."""

ScoreKind = Literal[
    "feature",
    "elsewhere",
    "error",
    "b_dec",
    "bias",
    "embedding",
    "position",
    "attention",
    "mlp",
    "block",
    "rounding",
    "other",
]
"""What a part of a query or a key is.  `elsewhere`: features that fire at other keys alone; `bias`:
the norm's shift and the biases of the projection."""

PartGroup = Literal["features", "written", "error", "bias", "rounding"]
"""Parts of a query or a key of one sort.  `features`: of an SAE, those that fire elsewhere
included; `written`: what was written into the stream, where no SAE tells it; `bias`: `bias` and
`b_dec`."""


class AttendedPair(Part):
    """A head, and two tokens between which it looks."""

    head: int = Field(ge=0, le=10_000)
    token: int | None = Field(None, ge=0, le=MAX_ATTENTION_TOKENS)
    """Where it looks from; null is the last token."""
    source: int = Field(ge=BOS, le=MAX_ATTENTION_TOKENS)
    """Where it looks to; -1 is the BOS before a text."""


class AttentionQuestion(Prompted):
    """What is asked of a prompt, however its SAEs are named."""

    tokens: (
        Annotated[
            list[Annotated[int, Field(ge=0, le=MAX_ATTENTION_TOKENS)]],
            Field(min_length=1, max_length=MAX_PLACES),
        ]
        | None
    ) = None
    """At which tokens features are looked at, counted from 0 without a BOS; null is the last."""
    features: FeatureIndices | None = None
    """Which features, at each of `tokens`; they must fire there.  Null takes the strongest."""
    top_k: int = Field(5, ge=1, le=20)
    """So many of the strongest, where `features` is null."""
    depth: int = Field(0, ge=0, le=MAX_DEPTH)
    """Steps back from each feature's sources: 1 to the stream at a source (features of
    `residual_sae`, or what was written into the stream), 2 to what made those features, 3 and more
    through attention of the blocks below."""
    listed: int = Field(8, ge=1, le=50)
    """Largest parts told of each sum; the rest is one part, `other`."""
    pair: AttendedPair | None = None
    """Also why a head of the SAE's block looks from one token to another."""

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        for name in ("tokens", "features"):
            given = getattr(self, name)
            if given is not None and len(set(given)) < len(given):
                raise ValueError(f"{name} names something twice")
        return self

    def question(self) -> dict[str, object]:
        """The fields of ``AttentionQuestion`` alone, as another of its kind takes them."""
        return {name: getattr(self, name) for name in AttentionQuestion.model_fields}


class AttentionRequest(AttentionQuestion):
    """A prompt, and features of an attention-output SAE whose sources are to be found."""

    sae: SaeName
    """Id or unique name of an SAE on attn.hook_z."""
    residual_sae: SaeName | None = None
    """An SAE on the stream before that block (its hook_resid_pre, or hook_resid_post of the block
    below), in whose features sources are told."""
    through: Annotated[list[SaeName], Field(min_length=1, max_length=MAX_THROUGH)] | None = None
    """SAEs of blocks below, on attn.hook_z or on the stream, in whose features deeper steps are
    told."""


class AttentionCall(AttentionQuestion):
    """What the API sends on."""

    model: ModelSpec
    sae: SaePlace
    through: list[SaePlace] = Field(max_length=MAX_THROUGH + 1)
    """The residual SAE first, where there is one."""


class TracedPart(Answer):
    """A summand of what it stands under."""

    kind: PartKind
    value: float
    token: int | None = None
    """-1 is the BOS."""
    layer: int | None = None
    sae: int | None = None
    """Which of `saes`, for a feature or an error."""
    feature: int | None = None
    label: str | None = None
    activation: float | None = None
    count: int | None = None
    """How many parts `other` stands for."""
    parts: list[TracedPart] | None = None
    """What it is the sum of; null where it was not taken further back."""


class FeatureAttention(Answer):
    """One feature at one token: `pre` is the sum of `by_head`, `bias_by_head`, `b_enc`, `b_dec` and
    `rounding`; `by_head` and `by_source` (with `bos`) have the same sum."""

    token: int
    index: int
    label: str | None = None
    activation: float
    pre: float
    """Pre-activation of the SAE's first encoding."""
    by_head: list[float]
    """What each head brings, without the bias of the values."""
    bias_by_head: list[float]
    """What that bias adds through each head, wherever it looks."""
    bos: float | None
    """From the BOS before the text; null where there is none."""
    by_source: list[float]
    """From each token up to this one, through all heads."""
    cells: list[tuple[int, int, float]]
    """The largest of head and source: head, source (-1 is the BOS), value."""
    b_enc: float
    b_dec: float
    """Decoder bias through the encoder, taken off."""
    rounding: float
    parts: list[TracedPart] | None = None
    """`pre` as a sum, sources taken back by `depth`; null for depth 0."""


class ScoredPartText(Answer):
    """A part of the query or the key, and what it counts with all of the other side."""

    kind: ScoreKind
    layer: int | None = None
    sae: int | None = None
    feature: int | None = None
    label: str | None = None
    activation: float | None = None
    score: float
    relative: float


class PairGroup(Answer):
    """All pairs of one group of the query's parts with one of the key's."""

    query: PartGroup
    key: PartGroup
    score: float
    relative: float
    share: float
    """Of the absolute scores of all pairs."""
    relative_share: float
    """Of the absolute values of what all pairs count relatively."""


class PairAttention(Answer):
    """Why a head looks from a token to a source.  `score` is the sum of `query`'s scores, of
    `key`'s and of `groups`'; `score - average` that of their `relative` ones."""

    head: int
    token: int
    source: int
    weight: float
    """Share of the head's attention."""
    score: float
    """Scaled product of query and key, before any soft cap."""
    average: float
    """Of the scores of all tokens that it may look at, weighted by its attention to them."""
    query: list[ScoredPartText]
    """The largest and those of `pairs`, by the absolute value of `relative`; the rest is
    `other`."""
    key: list[ScoredPartText]
    pairs: list[tuple[int, int, float, float]]
    """The largest of all pairs by the absolute value of the last: place in `query`, place in `key`,
    score, relative."""
    groups: list[PairGroup]
    """Every pair is of one; the largest `relative_share` first."""


class AttentionAnswer(Answer):
    """What the inference server found; labels are still to come."""

    tokens: list[TokenText]
    bos: TokenText | None
    layer: int
    heads: int
    features: list[FeatureAttention]
    pair: PairAttention | None = None


class AttentionResponse(Answer):
    """Where features read from."""

    sae: SaeSummary
    saes: list[SaeSummary]
    """That one, then those that attributions go through: parts name an SAE by its place here."""
    tokens: list[TokenText]
    bos: TokenText | None
    """What was read before the text; sources name it -1."""
    layer: int
    heads: int
    features: list[FeatureAttention]
    """Token by token, the strongest first or in the order asked for."""
    pair: PairAttention | None = None
