"""Texts and chats that are sent, tokens that come back, and the SAEs that are to read them."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from monosemy.specs.inference.answer import Answer
from monosemy.specs.messages import pattern
from monosemy.specs.part import Part

MAX_CHARACTERS, MAX_MESSAGES = 20_000, 100

SaeName = Annotated[str, Field(min_length=1, max_length=200, examples=["demo"])]
FeatureIndices = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=200)
]


_ROLE = pattern(r"^[a-z_]+$", "a role of small letters, such as user,")


class ChatMessage(Part):
    role: str = Field(min_length=1, max_length=40, pattern=_ROLE, examples=["user"])
    content: str = Field(max_length=MAX_CHARACTERS)


Text = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]
Messages = Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]


class Prompted(Part):
    """A text or a chat."""

    text: Text | None = None
    """Read by the host model as one context; the server says so where that is too short."""
    messages: Messages | None = None
    """A chat, put into the model's own template; or give `text`."""
    generation_prompt: bool = False
    """End a chat with what the template puts before the model's answer."""

    @model_validator(mode="after")
    def _a_text_or_a_chat(self) -> Self:
        if (self.text is None) == (self.messages is None):
            raise ValueError("give text or messages, one of them")
        return self

    def prompt(self) -> dict[str, Any]:
        """The fields of ``Prompted`` alone, as another of its kind takes them."""
        return {name: getattr(self, name) for name in Prompted.model_fields}


class SaePlace(Part):
    """An SAE as the API names it to the inference server."""

    id: str
    path: str
    """SAE folder, relative to the artifact root."""
    site: str
    recorded: dict[str, Any] | None = None
    """What its row keeps of weights and host model, which are held to it."""


class TokenText(Answer):
    id: int
    text: str
    """A character over several tokens stands whole at the first."""
