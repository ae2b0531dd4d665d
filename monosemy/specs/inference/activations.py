"""Live activations and token ids: as the API takes and gives them, and as the inference server
does."""

from __future__ import annotations

from typing import Annotated, Any, Self

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
from monosemy.specs.rest.saes import ModelBrief, SaeSummary

MAX_SAES = 8

TopK = Annotated[int, Field(ge=1, le=100)]


class SaeChoice(Part):
    """An SAE that is to read the text."""

    sae: SaeName
    """Id or unique name."""
    features: FeatureIndices | None = None
    """Only these features, with what they do on every token; null takes all."""


class ActivationsRequest(Prompted):
    """A text whose tokens are to be shown with the features that fire on them."""

    sae: SaeName | None = None
    """Id or unique name of the SAE."""
    saes: Annotated[list[SaeChoice], Field(min_length=1, max_length=MAX_SAES)] | None = None
    """Or several, all of one host model, which reads the text once."""
    top_k: TopK = 5
    """Strongest features given per token and SAE."""
    features: FeatureIndices | None = None
    """Only these features of `sae`, with what they do on every token; null takes all."""
    unexplained: bool = False
    """Also tell what share of each token's activations the SAE leaves unexplained."""

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if (self.sae is None) == (self.saes is None):
            raise ValueError("give sae or saes, one of them")
        if self.saes is not None and self.features is not None:
            raise ValueError("with saes, give features beside each")
        return self

    def choices(self) -> list[SaeChoice]:
        """The SAEs, however they were given."""
        if self.sae is not None:
            return [SaeChoice(sae=self.sae, features=self.features)]
        return list(self.saes or ())


class FiringFeature(Answer):
    sae: int
    """Which of `saes`, counted from 0."""
    index: int
    activation: float
    label: str | None
    """What heads it (an explanation whose score clears its shuffled baseline, else its
    evidence label); null when it is not indexed."""


Unexplained = list[list[float] | None]
"""For each SAE and token the squared distance of its reconstruction from the activations, over that
of its decoder bias, which is what it says where nothing fires: 0 explains all, 1 no more than no
feature at all.  Null for an SAE that writes to another place than it reads."""


class TokenActivations(TokenText):
    features: list[FiringFeature]
    """SAE by SAE, strongest first."""


class ChosenFeature(Answer):
    """A feature that was asked for, over the whole text."""

    sae: int
    """Which of `saes`, counted from 0."""
    index: int
    label: str | None
    activations: list[float]
    """On every token; 0 where it does not fire."""


class ActivationsResponse(Answer):
    """Top features of every token.  A BOS before the text is read and not shown."""

    sae: SaeSummary
    """The first of `saes`."""
    saes: list[SaeSummary]
    tokens: list[TokenActivations]
    chosen: list[ChosenFeature]
    """Those of `features`, in the order asked for; empty where none were."""
    unexplained: Unexplained | None = None
    """By SAE and token, where it was asked for: squared distance of the reconstruction from the
    activations, over that of the decoder bias alone; null for an SAE that transcodes."""


class SaeCall(SaePlace):
    """An SAE that is to read the text, by its place."""

    features: FeatureIndices | None = None
    """These, with what they do on every token; null takes none."""
    only: bool = True
    """Where features are given: whether they alone are told token by token, as far as they fire;
    otherwise the strongest are."""


class ActivationsCall(Prompted):
    """What the API sends on."""

    model: ModelSpec
    saes: list[SaeCall] = Field(min_length=1, max_length=MAX_SAES)
    top_k: TopK = 5
    unexplained: bool = False
    """Also tell what each SAE leaves unexplained."""
    clip: bool = False
    """Read as much of a text as the context holds; otherwise one that is too long is refused."""


class SaeActivations(Answer):
    features: list[list[tuple[int, float]]]
    """By token, index and activation of those that fire, strongest first."""
    chosen: list[list[float]] | None
    """For each feature asked for its activation on every token, 0 included; null where none was."""
    unexplained: list[float] | None = None
    """By token, where it was asked for and the SAE reconstructs what it reads."""
    fires: list[int] | None = None
    """How many latents fire on each token."""


class ActivationsAnswer(Answer):
    """What the inference server found."""

    tokens: list[TokenText]
    saes: list[SaeActivations]
    """One for each of the call's."""
    left_out: int = Field(0, ge=0)
    """Tokens behind the end of the context, which were not read."""

    @model_validator(mode="after")
    def _a_value_for_each_token(self) -> Self:
        tokens = len(self.tokens)
        for sae in self.saes:
            rows: list[list[Any]] = [sae.features, *(sae.chosen or ())]
            rows += [each for each in (sae.unexplained, sae.fires) if each is not None]
            if any(len(row) != tokens for row in rows):
                raise ValueError(f"not one value for each of {tokens} tokens")
        return self

    def answers(self, call: ActivationsCall) -> bool:
        """Whether there is an SAE for each of the call's, and a row for each feature asked for."""
        counts_asked = [None if each.features is None else len(each.features) for each in call.saes]
        counts_answered = [None if each.chosen is None else len(each.chosen) for each in self.saes]
        return counts_asked == counts_answered


class TokenizeRequest(Prompted):
    """A text or chat to be cut into tokens."""

    model: SaeName | None = None
    """Id or unique name of a host model ..."""
    sae: SaeName | None = None
    """... or of an SAE, for its host model and for the BOS that it was trained with."""

    @model_validator(mode="after")
    def _a_model_or_an_sae(self) -> Self:
        if (self.model is None) == (self.sae is None):
            raise ValueError("give model or sae, one of them")
        return self


class TokenizeResponse(Answer):
    """Tokens as the host model's own tokenizer cuts them."""

    model: ModelBrief
    tokens: list[TokenText]
    """Joined, their texts are the text, or the chat as its template writes it."""
    bos: TokenText | None
    """What activations of that SAE read before a text; null for a chat, without an SAE, and where
    it was trained without."""


class TokenizeCall(Prompted):
    """What the API sends on."""

    model: ModelSpec
    sae: SaePlace | None = None
    """For the BOS that it was trained with."""


class TokenizeAnswer(Answer):
    """What the inference server found."""

    tokens: list[TokenText]
    bos: TokenText | None
