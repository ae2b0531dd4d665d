"""All SQL on concepts; nothing here commits."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, undefer

from monosemy.specs.rest.concepts import ConceptResult, summary_of
from service.database.concept_tables import Concept
from service.database.storable import storable
from service.database.tables import Run
from service.kit.errors import Listing, NameTaken
from service.kit.pagination import TimeKey, newest_first
from service.kit.references import row_of


def check_free(session: Session, name: str, run: uuid.UUID | None = None) -> None:
    """``NameTaken`` where a concept that another run than ``run`` made has this name."""
    query = select(Concept.id).where(Concept.name == name, Concept.id != run)
    if session.scalar(query) is not None:
        raise NameTaken(
            f"There is a concept named '{name}' already.", "Take another name, or delete that one."
        )


def keep_concept(session: Session, run: uuid.UUID, sae: uuid.UUID, result: ConceptResult) -> None:
    """What a run found, in place of what an earlier attempt of it did; raises as ``check_free``."""
    check_free(session, result.concept.name, run)
    owner = session.scalar(select(Run.created_by).where(Run.id == run))
    delete_concept(session, run)
    session.add(
        Concept(
            id=run,
            name=result.concept.name,
            sae_id=sae,
            summary=storable(summary_of(result).model_dump(mode="json")),
            result=storable(result.model_dump(mode="json")),
            created_by=owner,
        )
    )
    session.flush()


def list_concepts(
    session: Session, sae: uuid.UUID | None, before: TimeKey | None, limit: int
) -> Sequence[Concept]:
    """Newest first; with ``sae`` those of it."""
    query = select(Concept)
    if sae is not None:
        query = query.where(Concept.sae_id == sae)
    return session.scalars(newest_first(query, Concept, before, limit)).all()


def find_concept(session: Session, reference: str, only: bool = False) -> Concept:
    """By id, name or ``latest``; raises as ``row_of``, which says what ``only`` is."""
    listing, options = Listing.CONCEPTS, [undefer(Concept.result)]
    return row_of(session, Concept, reference, "concept", listing, Concept.name, only, options)


def delete_concept(session: Session, id: uuid.UUID) -> None:
    session.execute(delete(Concept).where(Concept.id == id))
