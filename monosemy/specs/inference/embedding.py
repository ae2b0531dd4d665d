"""Embeddings of texts, and the health of the server that makes them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from monosemy.specs.inference.answer import Answer
from monosemy.specs.part import Part


class EmbedCall(Part):
    """Texts to embed."""

    texts: list[str] = Field(min_length=1, max_length=256)


class EmbedAnswer(Answer):
    embeddings: list[list[float]]
    """A unit vector for each text."""


class ServerHealth(Answer):
    """The inference server answers."""

    status: Literal["ok"]
