"""A document: the unit that rows, splits and examples respect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_NAME_FIELDS = ("title", "name", "id", "url")


class Document(NamedTuple):
    """A text with a name that a person can find it by."""

    name: str
    text: str


def name_of(record: Mapping[str, Any], otherwise: str) -> str:
    """The record's title, name, id or url, else ``otherwise``."""
    for field in _NAME_FIELDS:
        value = record.get(field)
        if isinstance(value, (str, int)) and str(value).strip():
            return str(value)[:200]
    return otherwise
