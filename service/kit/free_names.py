"""Names that are made unique by a number."""

from __future__ import annotations

from collections.abc import Collection


def first_free(wanted: str, taken: Collection[str]) -> str:
    """``wanted``, or ``wanted-2``, ``-3``, ... if that is taken."""
    number, name = 1, wanted
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    return name
