"""Reads of runs and events for the API; what changes a run is in ``repository``."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, or_, select
from sqlalchemy.orm import Session

from service.database.tables import Run, RunEvent
from service.kit.pagination import TimeKey, newest_first


@dataclass(frozen=True)
class RunFilter:
    state: str | None = None
    kind: str | None = None
    parent: uuid.UUID | None = None
    top_level: bool = False
    """Only runs that are no step of another."""


def list_runs(
    session: Session,
    filters: RunFilter,
    before: TimeKey | None,
    limit: int,
) -> Sequence[Run]:
    """Newest first, older than the sort key ``before``."""
    query = select(Run)
    if filters.state is not None:
        query = query.where(Run.state == filters.state)
    if filters.kind is not None:
        query = query.where(Run.kind == filters.kind)
    if filters.parent is not None:
        query = query.where(Run.parent_id == filters.parent)
    if filters.top_level:
        query = query.where(Run.parent_id.is_(None))
    return session.scalars(newest_first(query, Run, before, limit)).all()


def get_family(session: Session, run_id: uuid.UUID) -> tuple[Run, list[Run]] | None:
    """The run and its children in order, in one statement."""
    query = (
        select(Run)
        .where(or_(Run.id == run_id, Run.parent_id == run_id))
        .order_by(Run.position, Run.created_at, Run.id)
    )
    # Anew from the database: statements may have changed rows behind the session's back.
    rows = session.scalars(query, execution_options={"populate_existing": True}).all()
    run = next((row for row in rows if row.id == run_id), None)
    return None if run is None else (run, [row for row in rows if row.id != run_id])


def find_runs(session: Session, ids: Sequence[uuid.UUID]) -> Sequence[Run]:
    """Those of these ids that are there, in no order."""
    return session.scalars(select(Run).where(Run.id.in_(ids))).all() if ids else []


@dataclass(frozen=True)
class EventRow:
    id: int
    run_id: uuid.UUID
    type: str
    data: dict[str, Any]
    created_at: dt.datetime
    age: float
    """Seconds since the transaction that wrote it began, by the database's clock."""


def state_of(connection: Connection, run_id: uuid.UUID) -> str | None:
    return connection.execute(select(Run.state).where(Run.id == run_id)).scalar_one_or_none()


def family_events(
    connection: Connection, run_id: uuid.UUID, after: int, limit: int
) -> list[EventRow]:
    """Events of the run and its children with ids above ``after``, ascending."""
    family = select(Run.id).where(or_(Run.id == run_id, Run.parent_id == run_id))
    age = func.extract("epoch", func.clock_timestamp() - RunEvent.created_at)
    query = (
        select(
            RunEvent.id,
            RunEvent.run_id,
            RunEvent.type,
            RunEvent.data,
            RunEvent.created_at,
            age,
        )
        .where(RunEvent.run_id.in_(family), RunEvent.id > after)
        .order_by(RunEvent.id)
        .limit(limit)
    )
    return [
        EventRow(id, owner, type_, data, created_at, float(seconds))
        for id, owner, type_, data, created_at, seconds in connection.execute(query)
    ]


def family_log(
    session: Session, run_id: uuid.UUID, before: int | None, limit: int
) -> Sequence[RunEvent]:
    """Logs and changes of state of the run and its children, newest first, below id ``before``."""
    family = select(Run.id).where(or_(Run.id == run_id, Run.parent_id == run_id))
    query = (
        select(RunEvent)
        .where(RunEvent.run_id.in_(family), RunEvent.type.in_(("state", "log")))
        .order_by(RunEvent.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(RunEvent.id < before)
    return session.scalars(query).all()


SETTLED_SECONDS = 5.0
"""No event that is older turns up late, below one that was read."""


def settled_event(session: Session, run_id: uuid.UUID) -> int:
    """The newest event of the run and its children below which none can turn up any more; 0 for
    none.  Whoever has read what there is follows from here, and leaves out what was read."""
    family = select(Run.id).where(or_(Run.id == run_id, Run.parent_id == run_id))
    old = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, SETTLED_SECONDS)
    query = select(func.max(RunEvent.id)).where(
        RunEvent.run_id.in_(family), RunEvent.created_at < old
    )
    return int(session.scalar(query) or 0)
