"""Names that are made unique by a number."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, select
from sqlalchemy.orm import Session

_LOCK = 0x5AE5  # any number: ours among the database's advisory locks


def lock_names(session: Session) -> None:
    """Nobody else gives an SAE or a set a name until the transaction ends: two that look for a free
    one at once would choose the same."""
    session.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def first_free(wanted: str, taken: Collection[str]) -> str:
    """``wanted``, or ``wanted-2``, ``-3``, ... if that is taken."""
    number, name = 1, wanted
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    return name
