"""What people name a stored thing by: its id, its name, or the word for the newest there is."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Session
from sqlalchemy.orm.interfaces import ORMOption

from monosemy.specs.names import LATEST, spellings
from service.kit.errors import Conflict, Listing, NotFound

Row = TypeVar("Row", bound=DeclarativeBase)


def row_of(
    session: Session,
    table: type[Row],
    reference: str,
    what: str,
    listing: Listing,
    name: InstrumentedAttribute[str] | None = None,
    only: bool = False,
    options: Sequence[ORMOption] = (),
) -> Row:
    """The row of ``table`` that ``reference`` means, loaded with ``options``; ``NotFound`` if there
    is none.  One statement finds and reads it: between two it could be deleted.

    Of several of one ``name``, and of all for ``latest``, it is the newest.  ``only``: not where
    something is to be deleted: no ``latest``, and ``Conflict`` for a name that several have.
    """
    columns: Any = table
    with suppress(ValueError):
        row = session.get(table, uuid.UUID(reference), options=options)
        if row is not None:
            return row
    order = columns.created_at.desc(), columns.id.desc()
    newest = select(table).options(*options).order_by(*order)
    rows: list[Row] = []
    if name is not None:
        rows = list(session.scalars(newest.where(name.in_(spellings(reference))).limit(2)))
        if only and len(rows) > 1:
            raise Conflict(f"There are several {what}s named '{reference}'.", "Name one by its id.")
    if not rows and reference == LATEST and not only:
        rows = list(session.scalars(newest.limit(1)))
    if not rows:
        raise NotFound(what, reference, listing)
    return rows[0]
