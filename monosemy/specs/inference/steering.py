"""Steering as the API takes and gives it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from monosemy.specs.inference.activations import MAX_CHARACTERS, MAX_MESSAGES, ChatMessage
from monosemy.specs.rest.saes import SaeSummary

MAX_STEERED, MAX_NEW_TOKENS = 50, 1024


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class SteeredFeature(_Part):
    """One feature, pushed."""

    index: int = Field(ge=0, lt=2**31)
    strength: float = Field(ge=-1e6, le=1e6, allow_inf_nan=False)
    """How far; below 0 against it."""
    unit: Literal["max", "activation"] = "max"
    """`max`: times the feature's maximum over the indexed text; `activation`: as it stands."""
    mode: Literal["add", "orthogonal", "clamp"] = "add"
    """`add`: so much of its decoder row is added. `orthogonal`: the stream's part along that row is
    replaced by so much. `clamp`: the feature's own part of the reconstruction is replaced by so
    much, wherever it fires or not; what the SAE does not explain stays."""


class SteerRequest(_Part):
    """A text to be written on, with features pushed and without."""

    sae: str = Field(min_length=1, max_length=200, examples=["demo"])
    """Id or unique name of the SAE."""
    features: list[SteeredFeature] = Field(min_length=1, max_length=MAX_STEERED)
    """All of them at once, each computed from the activations as they were."""
    prompt: str | None = Field(None, min_length=1, max_length=MAX_CHARACTERS)
    """A text to go on from; or give `messages`."""
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)] | None = (
        None
    )
    """A chat, put into the model's own template."""
    new_tokens: int = Field(64, ge=1, le=MAX_NEW_TOKENS)
    """At most so many."""
    temperature: float = Field(0.7, ge=0, le=10, allow_inf_nan=False)
    """0 takes the likeliest token each time."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Both texts are sampled with the same noise."""
    where: Literal["all", "new"] = "all"
    """`all`: tokens of the prompt are pushed too; `new`: from its last one on. BOS never is."""
    special_tokens: bool = False
    """Push at special tokens too, such as a chat template's."""
    logprobs: int = Field(0, ge=0, le=20)
    """So many likeliest tokens are told with each new one."""
    compare: bool = True
    """Also write on without pushing."""
    stream: bool = False
    """Server-sent events as tokens come, instead of one answer at the end."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give a prompt or messages, one of them")
        return self


class PushedFeature(_Part):
    """What was pushed, and how far."""

    index: int
    label: str | None
    strength: float
    """As an activation."""
    mode: str


class TokenChance(_Part):
    id: int
    text: str
    logprob: float


class WrittenToken(TokenChance):
    """A new token; a character over several of them comes with its last one."""

    top: list[TokenChance]
    """The likeliest in its place."""


class WrittenText(_Part):
    text: str
    tokens: list[WrittenToken]
    ended: Literal["stop", "length"]
    """`stop` where the model ended it itself."""


class SteerResponse(_Part):
    """What the model wrote."""

    sae: SaeSummary
    features: list[PushedFeature]
    prompt: str
    """As the model read it."""
    steered: WrittenText
    plain: WrittenText | None
    """Without pushing; null where nobody asked for it."""
