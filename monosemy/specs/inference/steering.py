"""Steering: as the API takes and gives it, and as the inference server does."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from monosemy.specs.concepts import MOST_CONCEPTS, FittedConcept
from monosemy.specs.inference.answer import Answer
from monosemy.specs.inference.places import TokenPlaces
from monosemy.specs.inference.prompts import Messages, SaeName, SaePlace, Text
from monosemy.specs.part import Latent, Part, added_later
from monosemy.specs.parts import ModelSpec
from monosemy.specs.rest.saes import SaeSummary

MAX_STEERED, MAX_NEW_TOKENS = 50, 1024

SteeringMode = Literal["add", "ablate", "clamp", "orthogonal"]
TextName = Literal["steered", "plain"]
ConceptName = Annotated[str, Field(min_length=1, max_length=200)]
Ended = Literal["stop", "length"]


class SteeredFeature(Part):
    """One feature, pushed."""

    index: int = Field(ge=0, lt=2**31)
    strength: float = Field(ge=-1e6, le=1e6)
    """How far; below 0 against it. It has no meaning for `ablate`."""
    unit: Literal["max", "activation"] = "max"
    """`max`: times the feature's maximum over the indexed text; `activation`: in its own units."""
    mode: SteeringMode = "add"
    """`add`: the strength times its decoder row is added. `orthogonal`: the stream's part along
    that row is replaced by it. `clamp`: the feature's own part of the reconstruction is
    replaced by it, whether it fires or not; what the SAE does not explain stays. `ablate`: that
    part is taken out."""


class Beginning(Part):
    """A text or a chat to go on from."""

    prompt: Text | None = None
    """A text to go on from; or give `messages`."""
    messages: Messages | None = None
    """A chat, put into the model's own template."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give a prompt or messages, one of them")
        return self


class WritingOptions(TokenPlaces):
    """How to write on, and which tokens are pushed."""

    new_tokens: int = Field(64, ge=1, le=MAX_NEW_TOKENS)
    """Most new tokens."""
    temperature: float = Field(0.7, ge=0, le=10)
    """0 takes the likeliest token each time."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Both texts are sampled with the same noise."""
    logprobs: int = Field(0, ge=0, le=20)
    """So many likeliest tokens are told with each new one."""


class SteerRequest(WritingOptions, Beginning):
    """A text to be written on, with features pushed and without."""

    sae: SaeName
    """Id or unique name of the SAE."""
    features: list[SteeredFeature] = Field([], max_length=MAX_STEERED)
    """All of them at once, each computed from the activations as they were."""
    concepts: list[ConceptName] = Field([], max_length=MOST_CONCEPTS)
    """Ids or names of concepts of this SAE. Where the prompt is flagged as holding one, its
    features are deactivated at the tokens that `where` says; a prompt that none of them flags is
    answered bit for bit as without."""
    compare: bool = True
    """Also write on without pushing."""
    stream: bool = False
    """Server-sent events as tokens come, instead of one answer at the end."""

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.features and not self.concepts:
            raise ValueError("name a feature or a concept")
        return self

    def options(self) -> WritingOptions:
        return WritingOptions(**{name: getattr(self, name) for name in WritingOptions.model_fields})


class Push(Part):
    """One latent, pushed."""

    latent: Latent
    strength: float
    """As an activation."""
    mode: SteeringMode = "add"


class SteerCall(Beginning):
    """What the API sends on."""

    sae: SaePlace
    model: ModelSpec
    pushes: list[Push] = Field(max_length=MAX_STEERED)
    concepts: list[FittedConcept] = added_later([], max_length=MOST_CONCEPTS)
    writing: WritingOptions = WritingOptions()
    compare: bool = True


class HeldConcept(Answer):
    """A concept that a prompt was held against."""

    name: str
    flagged: bool
    """Whether the score is above the threshold: its features are deactivated then."""
    score: float
    threshold: float


class PushedFeature(Answer):
    """What was pushed, and how far."""

    index: int
    label: str | None
    strength: float
    """As an activation."""
    mode: SteeringMode


class TokenChance(Answer):
    id: int
    text: str
    logprob: float


class WrittenToken(TokenChance):
    """A new token; a character over several of them comes with its last one."""

    top: list[TokenChance]
    """The likeliest in its place."""


class WrittenText(Answer):
    text: str
    tokens: list[WrittenToken]
    ended: Ended
    """`stop` where the model ended it itself."""


class SteerResponse(Answer):
    """What the model wrote."""

    sae: SaeSummary
    features: list[PushedFeature]
    prompt: str
    """As the model read it."""
    pushed: int | None = None
    """How many tokens of the prompt were pushed."""
    concepts: list[HeldConcept] = Field([])
    """Which of the concepts the prompt was flagged for."""
    steered: WrittenText
    plain: WrittenText | None
    """Without pushing; null where nobody asked for it."""


class PromptEvent(Answer):
    """The prompt has been read."""

    event: Literal["prompt"] = "prompt"
    text: str
    """As the model read it."""
    tokens: int
    pushed: int | None = None
    """How many of them are pushed."""
    concepts: list[HeldConcept] = Field([])
    """Which of the concepts it is flagged for."""


class TokenEvent(WrittenToken):
    """A token has been written."""

    event: Literal["token"] = "token"
    row: TextName
    """In which of the texts."""
    last: bool
    """Whether its text ends with it."""


class EndEvent(Answer):
    """All is written: how each text ended."""

    event: Literal["end"] = "end"
    steered: Ended
    plain: Ended | None = None
    """Null where nobody asked for it."""


class ErrorEvent(Answer):
    """The stream cannot go on."""

    event: Literal["error"] = "error"
    detail: str
    status: int = Field(503, ge=400, lt=600)
    """What the answer's status would have been, had it not been sent already."""


SteerEvent = Annotated[
    PromptEvent | TokenEvent | EndEvent | ErrorEvent, Field(discriminator="event")
]
STEER_EVENT: TypeAdapter[PromptEvent | TokenEvent | EndEvent | ErrorEvent] = TypeAdapter(SteerEvent)


def event_json(event: PromptEvent | TokenEvent | EndEvent | ErrorEvent, **options: Any) -> str:
    """One line; of a text that nobody asked for it says nothing."""
    return event.model_dump_json(exclude_none=isinstance(event, EndEvent), **options)


class SteeringBegun(PromptEvent):
    """The API's first event: the prompt, and what is pushed."""

    sae: SaeSummary
    features: list[PushedFeature]
