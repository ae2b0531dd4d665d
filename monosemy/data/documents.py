"""A document: the unit that rows, splits and examples respect."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

Holds = Literal["text", "chat", "either"]
"""What a text source is read as."""

_NAME_FIELDS = ("title", "name", "id", "url")


class Document(NamedTuple):
    """A text, or a dialogue yet to be rendered, with a name that a person can find it by."""

    name: str
    text: str
    messages: Sequence[Mapping[str, Any]] | None = None
    """The dialogue; None for plain text."""


def column_of(there: Collection[str], column: str, holds: Holds) -> str:
    """The column to read: chats left at the default ``text`` have ``messages`` where it exists."""
    unset = column == "text" and "messages" in there
    if unset and (holds == "chat" or (holds == "either" and "text" not in there)):
        return "messages"
    return column


def name_of(record: Mapping[str, Any], otherwise: str) -> str:
    """The record's title, name, id or url, else ``otherwise``."""
    for field in _NAME_FIELDS:
        value = record.get(field)
        if isinstance(value, (str, int)) and str(value).strip():
            return str(value)[:200]
    return otherwise
