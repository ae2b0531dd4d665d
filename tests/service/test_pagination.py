"""Pages of a listing: every row once, whatever the limit, and cursors that nobody else gave out."""

from __future__ import annotations

import base64
import datetime as dt
import json
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monosemy.specs.rest.page import Page
from service.kit.pagination import NoCursor, Order, by_time, each, number_of, paged

NUMBERS: Order[int, int] = Order((int,), lambda row: (row,), number_of(2**31))


def page(rows: list[int], cursor: str | None, limit: int, listing: Any = "numbers") -> Page[str]:
    def read(after: int | None, most: int) -> list[int]:
        return [row for row in rows if after is None or row > after][:most]

    return paged(listing, NUMBERS, cursor, limit, read, each(str))


@given(st.lists(st.integers(0, 2**31 - 1), unique=True, max_size=30).map(sorted), st.integers(1, 9))
def test_every_row_comes_once_and_in_order(rows: list[int], limit: int) -> None:
    shown: list[str] = []
    cursor = None
    for _ in range(len(rows) + 1):
        one = page(rows, cursor, limit)
        assert len(one.items) <= limit
        shown += one.items
        cursor = one.next_cursor
        if cursor is None:
            break
        assert len(one.items) == limit
    assert shown == [str(row) for row in rows]


@dataclass
class Dated:
    created_at: dt.datetime
    id: uuid.UUID


@given(st.datetimes(timezones=st.just(dt.UTC)), st.uuids())
def test_a_time_comes_back_as_it_was(when: dt.datetime, identity: uuid.UUID) -> None:
    order: Order[tuple[int, Dated], Any] = by_time(lambda row: row[1])
    assert order.decode("it", order.encode("it", (0, Dated(when, identity)))) == (when, identity)


def cursor_of(*parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(list(parts)).encode()).decode().rstrip("=")


MARK = json.loads(base64.urlsafe_b64decode(NUMBERS.encode("numbers", 1) + "=="))[0]


def test_a_cursor_made_here_is_one() -> None:
    assert NUMBERS.decode("numbers", cursor_of(MARK, 5)) == 5


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "?",
        "AAAA",
        cursor_of(),
        cursor_of(MARK),
        cursor_of(MARK, "5"),
        cursor_of(MARK, True),
        cursor_of(MARK, 5, 6),
        cursor_of(MARK, -1),
        cursor_of(MARK, 2**31),
        cursor_of("other", 5),
        base64.urlsafe_b64encode(b"5").decode(),
        base64.urlsafe_b64encode(b'{"a": 1}').decode(),
    ],
)
def test_what_is_no_cursor(cursor: str) -> None:
    with pytest.raises(NoCursor, match="start again without it"):
        page([1, 2, 3], cursor, 2)


def test_a_cursor_of_another_listing() -> None:
    cursor = page([1, 2, 3], None, 2).next_cursor
    with pytest.raises(NoCursor, match="another sort, order or filter"):
        page([1, 2, 3], cursor, 2, "other numbers")
