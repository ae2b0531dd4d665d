"""All SQL on circuits; nothing here commits."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from monosemy.specs.rest.circuits import CircuitResult, CircuitSummary
from service.database.circuit_tables import Circuit
from service.database.storable import storable
from service.kit.errors import Listing
from service.kit.pagination import TimeKey, newest_first
from service.kit.references import row_of


def store_circuit(
    session: Session,
    id: uuid.UUID,
    name: str,
    model: str,
    result: CircuitResult,
    owner: uuid.UUID | None,
) -> None:
    """In place of what an earlier attempt of the same run stored."""
    delete_circuit(session, id)
    summary = CircuitSummary.model_validate(result.model_dump())
    session.add(
        Circuit(
            id=id,
            name=name,
            model=model,
            task=result.task,
            summary=storable(summary.model_dump(mode="json")),
            result=storable(result.model_dump(mode="json")),
            created_by=owner,
        )
    )
    session.flush()


def list_circuits(
    session: Session, model: str | None, task: str | None, before: TimeKey | None, limit: int
) -> Sequence[Circuit]:
    """Newest first."""
    query = select(Circuit)
    if model is not None:
        query = query.where(Circuit.model == model)
    if task is not None:
        query = query.where(Circuit.task == task)
    return session.scalars(newest_first(query, Circuit, before, limit)).all()


def find_circuit(session: Session, reference: str, only: bool = False) -> Circuit:
    """By id, name or ``latest``; raises as ``row_of``, which says what ``only`` is."""
    return row_of(session, Circuit, reference, "circuit", Listing.CIRCUITS, Circuit.name, only)


def delete_circuit(session: Session, id: uuid.UUID) -> None:
    session.execute(delete(Circuit).where(Circuit.id == id))
