"""Live activations and token ids as the API takes and gives them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from monosemy.specs.part import Part
from monosemy.specs.rest.saes import ModelBrief, SaeSummary

MAX_CHARACTERS, MAX_MESSAGES, MAX_SAES = 20_000, 100, 8

SaeName = Annotated[str, Field(min_length=1, max_length=200, examples=["demo"])]
FeatureIndices = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=200)
]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ChatMessage(Part):
    role: str = Field(min_length=1, max_length=40, pattern=r"^[a-z_]+$", examples=["user"])
    content: str = Field(max_length=MAX_CHARACTERS)


class Prompted(Part):
    """A text or a chat."""

    text: str | None = Field(None, min_length=1, max_length=MAX_CHARACTERS)
    """Read by the host model as one context; the server says so where that is too short."""
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)] | None = (
        None
    )
    """A chat, put into the model's own template; or give `text`."""
    generation_prompt: bool = False
    """End a chat with what the template puts before the model's answer."""

    @model_validator(mode="after")
    def _a_text_or_a_chat(self) -> Self:
        if (self.text is None) == (self.messages is None):
            raise ValueError("give text or messages, one of them")
        return self


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
    top_k: int = Field(5, ge=1, le=100)
    """Strongest features given per token and SAE."""
    features: FeatureIndices | None = None
    """Only these features of `sae`, with what they do on every token; null takes all."""

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


class FiringFeature(_Answer):
    sae: int
    """Which of `saes`, counted from 0."""
    index: int
    activation: float
    label: str | None
    """Its best explanation's label, else its evidence label; null when it is not indexed."""


class TokenText(_Answer):
    id: int
    text: str
    """A character over several tokens stands whole at the first."""


class TokenActivations(TokenText):
    features: list[FiringFeature]
    """SAE by SAE, strongest first."""


class ChosenFeature(_Answer):
    """A feature that was asked for, over the whole text."""

    sae: int
    """Which of `saes`, counted from 0."""
    index: int
    label: str | None
    activations: list[float]
    """On every token; 0 where it does not fire."""


class ActivationsResponse(_Answer):
    """Top features of every token.  A BOS before the text is read and not shown."""

    sae: SaeSummary
    """The first of `saes`."""
    saes: list[SaeSummary]
    tokens: list[TokenActivations]
    chosen: list[ChosenFeature]
    """Those of `features`, in the order asked for; empty where none were."""


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


class TokenizeResponse(_Answer):
    """Tokens as the host model's own tokenizer cuts them."""

    model: ModelBrief
    tokens: list[TokenText]
    """Joined, their texts are the text, or the chat as its template writes it."""
    bos: TokenText | None
    """What activations of that SAE read before a text; null for a chat, without an SAE, and where
    it was trained without."""
