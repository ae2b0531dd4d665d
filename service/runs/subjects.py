"""What runs make or work on, in words that people know."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from monosemy.specs import PENDING_SAE
from monosemy.specs.rest.runs import RunSummary
from service.database.tables import Sae


def name_subjects(session: Session, runs: Sequence[RunSummary]) -> None:
    """Names the SAEs that specs refer to by id, in one statement; one that is gone keeps its id."""
    given = {each for run in runs for each in (run.subject, run.other)}
    ids = {each: found for each in given if (found := _id_of(each)) is not None}
    names: dict[uuid.UUID, str] = {}
    if ids:
        query = select(Sae.id, Sae.name).where(Sae.id.in_(ids.values()))
        names = {row.id: row.name for row in session.execute(query)}

    def named(reference: str | None) -> str | None:
        if reference in ids:
            return names.get(ids[reference], reference)
        return None if reference == PENDING_SAE else reference

    for run in runs:
        run.subject, run.other = named(run.subject), named(run.other)


def _id_of(subject: str | None) -> uuid.UUID | None:
    try:
        return uuid.UUID(subject) if subject is not None else None
    except ValueError:
        return None
