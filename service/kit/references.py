"""What people name a stored thing by: its id, its name, or the word for the newest there is."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from monosemy.specs.names import LATEST, spellings
from service.kit.errors import Conflict, Listing, NotFound


def id_of(
    session: Session,
    table: Any,
    reference: str,
    what: str,
    listing: Listing,
    name: InstrumentedAttribute[str] | None = None,
    only: bool = False,
) -> uuid.UUID:
    """The id of the row of ``table`` that ``reference`` means; ``NotFound`` if there is none.

    Of several of one ``name``, and of all for ``latest``, it is the newest.  ``only``: not where
    something is to be deleted: no ``latest``, and ``Conflict`` for a name that several have.
    """
    with suppress(ValueError):
        identity = uuid.UUID(reference)
        if session.scalar(select(table.id).where(table.id == identity)) is not None:
            return identity
    newest = select(table.id).order_by(table.created_at.desc(), table.id.desc())
    rows = []
    if name is not None:
        rows = list(session.scalars(newest.where(name.in_(spellings(reference))).limit(2)))
        if only and len(rows) > 1:
            raise Conflict(f"There are several {what}s named '{reference}'.", "Name one by its id.")
    if not rows and reference == LATEST and not only:
        rows = list(session.scalars(newest.limit(1)))
    if not rows:
        raise NotFound(what, reference, listing)
    found: uuid.UUID = rows[0]
    return found
