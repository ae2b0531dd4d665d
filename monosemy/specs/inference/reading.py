"""A text read by SAEs, told once for each feature: for pages and programs that read long texts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from monosemy.specs.inference.activations import MAX_SAES, TopK, Unexplained
from monosemy.specs.inference.answer import Answer
from monosemy.specs.inference.prompts import FeatureIndices, Prompted, SaeName
from monosemy.specs.part import Part
from monosemy.specs.rest.saes import SaeSummary

ReadingOrder = Literal["activation", "share", "rarity"]


class Reader(Part):
    """An SAE that is to read the text."""

    sae: SaeName
    """Id or unique name."""
    follow: FeatureIndices | None = None
    """What these features do on every token, beside the strongest."""


class ReadRequest(Prompted):
    """A text that one SAE reads, or several of one host model."""

    saes: Annotated[list[Reader], Field(min_length=1, max_length=MAX_SAES)]
    top_k: TopK = 5
    """Features given per token and SAE."""
    order: ReadingOrder = "activation"
    """Which those are. `activation`: the largest; `share`: the largest shares of the features' own
    maxima; `rarity`: those that fire on the fewest tokens of the indexed text. The last two choose
    among the 100 largest; features that are not indexed come last."""


class TokenColumns(Answer):
    """Tokens, as lists of one length."""

    id: list[int]
    text: list[str]
    """A character over several tokens stands whole at the first."""


class FeatureColumns(Answer):
    """Features, each once, as lists of one length."""

    sae: list[int]
    """Which of `saes`, counted from 0."""
    index: list[int]
    label: list[str | None]
    """What heads it; null where it is not indexed, as are the next two."""
    density: list[float | None]
    """Share of all indexed tokens on which it fires."""
    max_activation: list[float | None]


class FollowedFeature(Answer):
    """A feature over the whole text."""

    feature: int
    """Its place in `features`."""
    activations: list[float]
    """On every token; 0 where it does not fire."""


class ReadResponse(Answer):
    """What fires where.  A BOS before the text is read and not shown."""

    saes: list[SaeSummary]
    tokens: TokenColumns
    """Those that were read."""
    left_out: int
    """Tokens behind the end of the host model's context, which were not read."""
    features: FeatureColumns
    """All that the rest refers to."""
    firing: list[list[tuple[int, float]]]
    """By token, place in `features` and activation (6 significant digits): SAE by SAE, in the order
    asked for."""
    followed: list[FollowedFeature]
    """Those of `follow`, in the order asked for."""
    fires: list[list[int] | None]
    """By SAE and token, how many latents fire; null where an older inference server does not tell.
    """
    unexplained: Unexplained
    """By SAE and token: squared distance of the reconstruction from the activations, over that of
    the decoder bias alone; null for an SAE that transcodes."""
