"""API keys as the API shows and takes them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Literal

from pydantic import ConfigDict, Field

from monosemy.specs import Part
from monosemy.specs.described import Described
from monosemy.specs.names import Name
from monosemy.specs.rest.instants import Instant

Scope = Literal["read", "infer", "run", "admin"]


class KeyView(Described):
    """A key, which cannot be told from this."""

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    name: str
    prefix: str
    """How it begins."""
    scopes: list[Scope]
    """Each includes those before it: read, infer, run, admin."""
    max_running: int | None
    """Most of its runs under way at once."""
    requests_per_minute: int | None
    """Most requests a minute, over all replicas."""
    created_at: dt.datetime
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None
    last_used_at: dt.datetime | None
    """To the minute."""


class NewKey(Part):
    """A key to be made."""

    name: Name
    """Who or what will use it."""
    scopes: list[Scope] = Field(["read"], min_length=1, max_length=4)
    expires_at: Instant | None = None
    """It is good until then."""
    max_running: int | None = Field(None, ge=1, le=100_000)
    requests_per_minute: int | None = Field(None, ge=1, le=10_000_000)


class MadeKey(KeyView):
    """A key that was just made."""

    key: str
    """The key itself: shown this once, and not stored."""
