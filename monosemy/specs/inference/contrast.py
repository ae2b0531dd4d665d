"""Contrasts of texts: as the API takes and gives them, and as the inference server does."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from monosemy.specs.inference.answer import Answer
from monosemy.specs.inference.prompts import SaeName, SaePlace
from monosemy.specs.part import Part
from monosemy.specs.parts import ModelSpec
from monosemy.specs.rest.saes import SaeSummary

MAX_TEXTS, MAX_TEXT = 64, 4000

ContrastTexts = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]],
    Field(min_length=1, max_length=MAX_TEXTS),
]


class Rerank(Part):
    """Verifies candidates by what their explanations say."""

    description: str = Field(min_length=1, max_length=400, examples=["marine animals"])
    """What the positive texts are thought to have that the negative ones lack."""
    candidates: int = Field(100, ge=1, le=200)
    """So many of the best by the statistic are ordered anew."""


Pooling = Literal["mean", "max"]
Statistic = Literal["standardised", "auroc", "share"]


class TextSets(Part):
    """Texts that have something, and texts like them that lack it."""

    positive: ContrastTexts
    negative: ContrastTexts
    chat: bool = False
    """Each text is a user's message, put into the model's own chat template."""
    pooling: Pooling = "mean"
    """A feature's value on a text: its mean or its maximum over the text's tokens."""
    statistic: Statistic = "standardised"
    """What features are ordered by and tested with. `standardised`: the difference of the means
    over the standard deviation among all texts; at most 2. `auroc`: the chance that a positive text
    has the larger value, ties counted 1/2; with few texts many features reach 1, some by chance, so
    that its p-values are larger. `share`: the difference of the shares of texts on which the
    feature fires at all."""

    def sets(self) -> dict[str, Any]:
        """The fields of ``TextSets`` alone, as another of its kind takes them."""
        return {name: getattr(self, name) for name in TextSets.model_fields}


class ContrastRequest(TextSets):
    """Texts that have something, and texts like them that lack it.

    Every text counts once, however long.  The more texts, and the more alike the two sets are in
    everything else, the more the answer means: with 2 of each no p-value is below 1/6, with 5 of
    each it may be 1/252.
    """

    sae: SaeName
    """Id or unique name of the SAE."""
    top_k: int = Field(20, ge=1, le=100)
    """Features given of each side."""
    rerank: Rerank | None = None
    """Order the features of the positive side by their explanations as well."""
    values: bool = False
    """Also give each feature's value on every text."""


class ContrastCall(TextSets):
    """What the API sends on."""

    sae: SaePlace
    model: ModelSpec
    top: int = Field(20, ge=1, le=200)
    """Features of each side."""
    values: bool = False
    """Also each feature's value on every text."""


class SetDifference(Answer):
    """How one feature's values on positive texts differ from those on negative ones."""

    p_value: float
    """Family-wise: the share of relabellings of the texts under which the best of all features does
    at least as well towards this side. It is not changed by reranking."""
    auroc: float
    """Chance that a positive text has the larger value than a negative one, ties counted 1/2."""
    standardised: float
    """Difference of the means over the standard deviation among all texts."""
    mean_positive: float
    """Of the values on the positive texts."""
    mean_negative: float
    share_positive: float
    """Share of the positive texts on which it fires at all."""
    share_negative: float
    values: list[float] | None = None
    """On every text, the positive ones first, in the order in which they were given; null where
    that was not asked for."""


class Difference(SetDifference):
    """A feature as the inference server finds it."""

    feature: int
    """Index in the SAE."""
    statistic: float
    """That by which features are ordered, positives minus negatives; AUROC - 1/2 for `auroc`."""


class ContrastAnswer(Answer):
    """What the inference server found."""

    positive: list[Difference]
    """Largest statistic first; ties by the standardised difference, then by index."""
    negative: list[Difference]
    """Smallest statistic first."""
    tokens: int
    relabellings: int
    exact: bool


class ContrastFeature(SetDifference):
    """A feature, and how its values on positive texts differ from those on negative ones."""

    index: int
    label: str | None
    """What heads it (an explanation whose score clears its shuffled baseline, else its
    evidence label); null when it is not indexed."""
    rank: int
    """By the statistic, from 1; ties go by the standardised difference."""
    similarity: float | None = None
    """Greatest cosine of the description with an explanation of the feature, or with its evidence
    label where it has none; null unless reranked, or where it has neither."""
    rank_score: float | None = None
    """Reciprocal rank fusion: the sum of 1 / (60 + rank) over the statistic's order and the
    similarity's; null unless reranked."""


class ContrastResponse(Answer):
    """Features that tell the two sets apart, best first."""

    sae: SaeSummary
    statistic: str
    positive: list[ContrastFeature]
    """Those that the positive texts have more of."""
    negative: list[ContrastFeature]
    """Those that the negative texts have more of."""
    n_positive: int
    n_negative: int
    tokens: int
    """Tokens read; a BOS is not counted."""
    relabellings: int
    """Labellings behind the p-values, the true one among them."""
    exact: bool
    """Whether those are all possible labellings; otherwise they were drawn at random."""
    reranked: bool
    """Whether `positive` was ordered by similarity as well."""
    reason: str | None
    """Why it was not, though that was asked for."""
