"""Keyset pagination: an opaque cursor holds the sort key of the last row given out.

Pages stay right while rows are added: no row is skipped or given twice, however many share a key.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from sqlalchemy import Select, tuple_

from monosemy.specs.rest.page import Page
from monosemy.workspace import fingerprint
from service.kit.errors import InvalidRequest

Row = TypeVar("Row")
Key = TypeVar("Key")
Item = TypeVar("Item")
Q = TypeVar("Q", bound="Select[Any]")

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


TimeKey = tuple[dt.datetime, uuid.UUID]
"""Sort key of a listing whose newest rows come first: time of creation, id."""


class NoCursor(InvalidRequest):
    """A cursor that was not given out, or not by this listing."""

    def __init__(self, why: str = "this is no cursor") -> None:
        super().__init__([("cursor", f"{why}; start again without it")])


@dataclass(frozen=True)
class Order(Generic[Row, Key]):
    """What the rows of a listing are ordered by, and how a cursor holds it."""

    types: tuple[type, ...]
    """Of what the cursor holds: ``str`` and ``int``."""
    write: Callable[[Row], Sequence[str | int]]
    """What it holds of a row."""
    read: Callable[..., Key]
    """The row's sort key out of that; raises ``ValueError`` or ``OverflowError`` for what is
    none."""

    def encode(self, listing: Any, row: Row) -> str:
        """The cursor behind ``row``; ``listing`` is whatever fixes the order and the filters."""
        data = json.dumps([fingerprint(listing), *self.write(row)], separators=(",", ":"))
        return base64.urlsafe_b64encode(data.encode()).decode().rstrip("=")

    def decode(self, listing: Any, cursor: str | None) -> Key | None:
        """The sort key in ``cursor``; None without one.  Raises ``NoCursor`` where it is malformed
        or was given out by another listing."""
        if cursor is None:
            return None
        try:
            padded = cursor + "=" * (-len(cursor) % 4)
            mark, *values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        except (binascii.Error, ValueError, TypeError):
            raise NoCursor from None
        if tuple(map(type, values)) != self.types:
            raise NoCursor
        if mark != fingerprint(listing):
            raise NoCursor("this cursor belongs to a listing with another sort, order or filter")
        try:
            return self.read(*values)
        except (ValueError, OverflowError):
            raise NoCursor from None

    def gave(self, listing: Any, cursor: str) -> bool:
        """Whether ``listing`` gave out ``cursor``."""
        try:
            self.decode(listing, cursor)
        except NoCursor:
            return False
        return True


def number_of(end: int) -> Callable[[int], int]:
    """Reads a number from 0 to below ``end``."""

    def read(number: int) -> int:
        if not 0 <= number < end:
            raise ValueError
        return number

    return read


def by_time(row_of: Callable[[Row], Any] = lambda row: row) -> Order[Row, TimeKey]:
    """The order of ``newest_first``; ``row_of`` picks what has ``created_at`` and ``id``."""
    key = attrgetter("created_at", "id")
    return Order(
        (str, str),
        lambda row: (key(row_of(row))[0].isoformat(), str(key(row_of(row))[1])),
        lambda when, id_: (dt.datetime.fromisoformat(when), uuid.UUID(id_)),
    )


def newest_first(query: Q, table: Any, before: TimeKey | None, limit: int) -> Q:
    """``query`` ordered by ``created_at`` and ``id`` of ``table``, from behind ``before``."""
    query = query.order_by(table.created_at.desc(), table.id.desc()).limit(limit)
    if before is None:
        return query
    return query.where(tuple_(table.created_at, table.id) < tuple_(*before))


def paged(
    listing: Any,
    order: Order[Row, Key],
    cursor: str | None,
    limit: int,
    read: Callable[[Key | None, int], Sequence[Row]],
    show: Callable[[Sequence[Row]], list[Item]],
) -> Page[Item]:
    """One page of ``listing``, which is whatever fixes the order and the filters.

    ``read`` takes the sort key that the rows come after (None: from the first) and how many there
    may be; ``show`` makes the items of the page's rows.  Raises ``NoCursor``.
    """
    rows = read(order.decode(listing, cursor), limit + 1)
    page_rows = rows[:limit]
    return Page(
        items=show(page_rows),
        next_cursor=order.encode(listing, page_rows[-1]) if len(rows) > limit else None,
    )


def each(show: Callable[[Row], Item]) -> Callable[[Sequence[Row]], list[Item]]:
    """``show`` for every row of a page."""
    return lambda rows: [show(row) for row in rows]
