"""Listings, which the service gives page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from monosemy.arguments import whole
from monosemy.client.transport import Transport
from monosemy.specs.rest.page import Page

Item = TypeVar("Item")

MAX_PAGE = 200
"""Items that the service gives at most on one page."""


def listed(
    http: Transport, kind: type[Item], path: str, limit: int | None = None, /, **parameters: Any
) -> Iterator[Item]:
    """Every item, or the first ``limit``; a page is requested when it is reached."""
    pages: type[Page[Item]] = Page[kind]  # type: ignore[valid-type]
    left, cursor = None if limit is None else whole("limit", limit), None
    while left is None or left > 0:
        size = MAX_PAGE if left is None else min(left, MAX_PAGE)
        page = http.call(pages, "GET", path, limit=size, cursor=cursor, **parameters)
        yield from page.items
        if left is not None:
            left -= len(page.items)
        if page.next_cursor is None:
            return
        cursor = page.next_cursor
