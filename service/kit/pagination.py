"""Keyset pagination: an opaque cursor holds the sort key of the last row given out.

Pages stay right while rows are added: no row is skipped or given twice, however many share a key.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Query

from monosemy.workspace import fingerprint
from service.kit.errors import InvalidRequest

Item = TypeVar("Item")

DEFAULT_LIMIT = 50
MAX_LIMIT = 200

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Most items on one page.")]
CursorParam = Annotated[
    str | None,
    Query(
        max_length=1000,
        description="`next_cursor` of the page before; leave it out for the first page."
        " It holds for the same sort, order and filters only.",
    ),
]


def encode_cursor(listing: Any, key: Sequence[str | int]) -> str:
    """``listing`` is whatever fixes the order and the filters; ``key`` the last row's sort key."""
    data = json.dumps([fingerprint(listing), *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(data.encode()).decode().rstrip("=")


def decode_cursor(listing: Any, cursor: str, types: Sequence[type]) -> list[Any]:
    """The sort key in ``cursor``; 422 if it is malformed or was given out by another listing."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        mark, *key = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError):
        raise _bad("this is no cursor") from None
    if len(key) != len(types) or any(
        type(part) is not kind for part, kind in zip(key, types, strict=True)
    ):
        raise _bad("this is no cursor")
    if mark != fingerprint(listing):
        raise _bad("this cursor belongs to a listing with another sort, order or filter")
    return key


class Dated(Protocol):
    """A row that listings order by time of creation, newest first."""

    @property
    def created_at(self) -> dt.datetime: ...

    @property
    def id(self) -> uuid.UUID: ...


def encode_time_cursor(listing: Any, rows: Sequence[Dated], more: bool) -> str | None:
    """The cursor behind the last of ``rows``; None when no more follow."""
    if not more:
        return None
    return encode_cursor(listing, [rows[-1].created_at.isoformat(), str(rows[-1].id)])


def decode_time_cursor(listing: Any, cursor: str | None) -> tuple[dt.datetime, uuid.UUID] | None:
    if cursor is None:
        return None
    when, identity = decode_cursor(listing, cursor, (str, str))
    try:
        return dt.datetime.fromisoformat(when), uuid.UUID(identity)
    except ValueError:
        raise _bad("this is no cursor") from None


def cut(rows: Sequence[Item], limit: int) -> tuple[Sequence[Item], bool]:
    """``rows`` was fetched with one more than ``limit``: the page, and whether more follow."""
    return rows[:limit], len(rows) > limit


def _bad(message: str) -> InvalidRequest:
    return InvalidRequest([("cursor", message + "; start again without it")])
