"""All SQL on tasks; nothing here commits."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from monosemy.specs.rest.tasks import TaskResult, summary_of
from service.database.storable import storable
from service.database.tables import Run
from service.database.task_tables import Task
from service.kit.errors import Listing
from service.kit.pagination import TimeKey, newest_first
from service.kit.references import row_of


def keep_task(
    session: Session, run: uuid.UUID, saes: Sequence[uuid.UUID], result: TaskResult
) -> None:
    """What a run found, in place of what an earlier attempt of it did."""
    owner = session.scalar(select(Run.created_by).where(Run.id == run))
    delete_task(session, run)
    session.add(
        Task(
            id=run,
            sae_ids=list(saes),
            summary=storable(summary_of(result).model_dump(mode="json")),
            result=storable(result.model_dump(mode="json")),
            created_by=owner,
        )
    )
    session.flush()


def list_tasks(
    session: Session, sae: uuid.UUID | None, before: TimeKey | None, limit: int
) -> Sequence[Task]:
    """Newest first; with ``sae`` those that it was tried in."""
    query = select(Task)
    if sae is not None:
        query = query.where(Task.sae_ids.contains([sae]))
    return session.scalars(newest_first(query, Task, before, limit)).all()


def find_task(session: Session, reference: str, only: bool = False) -> Task:
    """By id or ``latest``; raises as ``row_of``, which says what ``only`` is."""
    return row_of(session, Task, reference, "task", Listing.TASKS, only=only)


def delete_task(session: Session, id: uuid.UUID) -> None:
    session.execute(delete(Task).where(Task.id == id))
