"""What the API sends to the inference server."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from monosemy.errors import DataError
from monosemy.interventions.generation import Generation
from monosemy.interventions.intervention import SteeringMode, steer
from monosemy.specs import ModelSpec
from workers.contrasting import Contrasted
from workers.inference_engine import SaeAt
from workers.prompts import Prompt
from workers.steered_text import Steer
from workers.warm_host import MAX_TOKENS


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SaePlace(_Body):
    id: str
    path: str
    """SAE folder, relative to the artifact root."""
    site: str
    recorded: dict[str, Any] | None = None
    """What its row keeps of weights and host model (``SaeAt.recorded``)."""

    def place(self) -> SaeAt:
        return SaeAt(self.path, self.site, recorded=self.recorded)


class SaeWanted(SaePlace):
    features: list[int] | None = Field(None, max_length=1000)
    """Only these, with what they do on every token."""

    def asked(self) -> SaeAt:
        return SaeAt(self.path, self.site, self.features, self.recorded)


class _PromptBody(_Body):
    """A text or a chat."""

    model: ModelSpec
    text: str | None = Field(None, min_length=1, max_length=100_000)
    messages: list[dict[str, str]] | None = Field(None, min_length=1, max_length=1000)
    generation_prompt: bool = False

    def prompt(self) -> Prompt:
        """Raises ``DataError`` unless there is one of them."""
        if (self.text is None) == (self.messages is None):
            raise DataError("Send a text or messages, one of them.")
        return Prompt(self.text, self.messages, self.generation_prompt)


class ActivationsBody(_PromptBody):
    saes: list[SaeWanted] = Field(min_length=1, max_length=64)
    top_k: int = Field(10, ge=1, le=1000)


class TokenizeBody(_PromptBody):
    sae: SaePlace | None = None
    """For the BOS that it was trained with."""


_Texts = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=100_000)]],
    Field(min_length=1, max_length=1000),
]


class ContrastBody(_Body):
    sae: SaePlace
    model: ModelSpec
    positive: _Texts
    negative: _Texts
    chat: bool = False
    """Whether each text is a user's message, to be put into the chat template."""
    pooling: Literal["mean", "max"] = "mean"
    statistic: Literal["standardised", "auroc", "share"] = "standardised"
    top: int = Field(20, ge=1, le=1000)

    def asked(self) -> Contrasted:
        return Contrasted(
            [self._prompt(text) for text in self.positive],
            [self._prompt(text) for text in self.negative],
            self.pooling,
            self.statistic,
            self.top,
        )

    def _prompt(self, text: str) -> Prompt:
        if self.chat:
            return Prompt(None, [{"role": "user", "content": text}], generation_prompt=False)
        return Prompt(text, None)


class PushBody(_Body):
    latent: int = Field(ge=0)
    strength: float = Field(allow_inf_nan=False)
    mode: SteeringMode = "add"


class WritingBody(_Body):
    new_tokens: int = Field(64, ge=1, le=MAX_TOKENS)
    temperature: float = Field(0.7, ge=0, le=10)
    seed: int = Field(0, ge=0, lt=2**63)
    where: Literal["all", "new"] = "all"
    special_tokens: bool = False
    logprobs: int = Field(0, ge=0, le=100)


class SteerBody(_Body):
    sae: SaePlace
    model: ModelSpec
    prompt: str | None = Field(None, min_length=1, max_length=100_000)
    messages: list[dict[str, str]] | None = Field(None, min_length=1, max_length=1000)
    pushes: list[PushBody] = Field(min_length=1, max_length=1000)
    writing: WritingBody = WritingBody()
    compare: bool = True

    def asked(self) -> Steer:
        """Raises ``DataError`` unless there is a prompt or a chat."""
        if (self.prompt is None) == (self.messages is None):
            raise DataError("Send a prompt or messages, one of them.")
        return Steer(
            Prompt(self.prompt, self.messages),
            tuple(steer(each.latent, each.strength, each.mode) for each in self.pushes),
            Generation(**self.writing.model_dump(exclude={"seed"})),
            self.writing.seed,
            self.compare,
        )


class EmbedBody(_Body):
    texts: list[str] = Field(min_length=1, max_length=256)
