"""Addresses of embeds, as they are asked for and given."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from pydantic import Field

from monosemy.specs.described import Described
from monosemy.specs.part import Part

EmbedPart = Literal["explanation", "histogram", "tokens", "writes", "examples"]
EMBED_PARTS: tuple[EmbedPart, ...] = ("explanation", "histogram", "tokens", "examples")
"""Shown where nothing else is asked for."""
MOST_EXAMPLES = 20


class NewEmbed(Part):
    """A feature to be shown on another page."""

    parts: list[EmbedPart] = Field(list(EMBED_PARTS), min_length=1, max_length=5)
    """What of it, in this order."""
    n: int = Field(5, ge=1, le=MOST_EXAMPLES)
    """How many examples."""
    theme: Literal["light", "dark"] | None = None
    """None follows the reader's system."""
    hours: float = Field(24.0 * 30, gt=0, le=24 * 366)
    """How long the address serves, where keys are asked for."""


class EmbedAddress(Described):
    """Where a feature can be embedded from."""

    path: str
    """Put the server's address before it."""
    expires_at: dt.datetime | None
    """When it stops serving; null in open mode."""
