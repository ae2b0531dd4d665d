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
    ids = {run.subject: found for run in runs if (found := _id_of(run.subject)) is not None}
    if ids:
        query = select(Sae.id, Sae.name).where(Sae.id.in_(ids.values()))
        names = {row.id: row.name for row in session.execute(query)}
    for run in runs:
        if run.subject in ids:
            run.subject = names.get(ids[run.subject], run.subject)
        elif run.subject == PENDING_SAE:
            run.subject = None


def _id_of(subject: str | None) -> uuid.UUID | None:
    try:
        return uuid.UUID(subject) if subject is not None else None
    except ValueError:
        return None
