"""Rows of tasks put into what the API answers."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from monosemy.specs.rest.tasks import TaskRow, TaskView
from service.database.task_tables import Task
from service.saes.repository import names_of
from service.tasks import repository


def rows(session: Session, tasks: Sequence[Task]) -> list[TaskRow]:
    """Without what stands in their sections."""
    names = names_of(session, (sae for task in tasks for sae in task.sae_ids))
    return [
        TaskRow(
            **task.summary,
            id=task.id,
            saes=[names[sae] for sae in task.sae_ids if sae in names],
            created_at=task.created_at,
        )
        for task in tasks
    ]


def view(session: Session, reference: str) -> TaskView:
    """``NotFound`` if there is none."""
    row = repository.find_task(session, reference)
    names = names_of(session, row.sae_ids)
    return TaskView(
        **row.result,
        id=row.id,
        saes=[names[sae] for sae in row.sae_ids if sae in names],
        created_at=row.created_at,
    )
