"""Listings come in pages."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """One page of a listing."""

    items: list[Item]
    next_cursor: str | None
    """Give it as ``cursor`` for the next page; null on the last one."""
