"""/tasks"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import Path, Query, Response

from monosemy.specs.rest.page import Page
from monosemy.specs.rest.tasks import TaskRow, TaskView
from service.database.task_tables import Task
from service.edge.context import SessionDep
from service.edge.routing import ApiRouter
from service.keys.authorize import CallerDep, CanRead, CanRun
from service.keys.ownership import check_owner
from service.kit.pagination import (
    DEFAULT_LIMIT,
    CursorParam,
    Limit,
    Order,
    TimeKey,
    by_time,
    paged,
)
from service.kit.problems import documented
from service.saes.repository import find_sae
from service.tasks import repository
from service.tasks.service import rows, view

router = ApiRouter(prefix="/tasks", tags=["tasks"])

TaskReference = Annotated[
    str,
    Path(
        alias="task",
        max_length=200,
        description="Id of the task (that of its run), or `latest` for the newest.",
    ),
]


@router.get("", summary="List tasks", dependencies=[CanRead], responses=documented(404, 422))
def list_all(
    session: SessionDep,
    sae: Annotated[
        str | None, Query(max_length=200, description="Only those with this SAE, by id or name.")
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[TaskRow]:
    """What supervised dictionaries, SAEs and baselines are worth at tasks, newest first, in short.
    A run of kind `task` makes one."""
    only = find_sae(session, sae)[0].id if sae is not None else None
    order: Order[Task, TimeKey] = by_time(lambda row: row)
    read = partial(repository.list_tasks, session, only)
    return paged(("tasks", str(only)), order, cursor, limit, read, partial(rows, session))


@router.get(
    "/{task}", summary="Show a task", dependencies=[CanRead], responses=documented(404, 422)
)
def show(session: SessionDep, reference: TaskReference) -> TaskView:
    """The supervised dictionary beside every SAE, its frozen-decoder baseline, PCA and random
    directions: how much of the task each keeps, how well few of its features steer it, and which
    attributes it finds, splits or lacks."""
    return view(session, reference)


@router.delete(
    "/{task}",
    summary="Delete a task",
    status_code=204,
    dependencies=[CanRun],
    responses=documented(404, 422),
)
def remove(session: SessionDep, caller: CallerDep, reference: TaskReference) -> Response:
    """Its run and the SAEs stay. Only for the API key whose run made it and for administrators."""
    row = repository.find_task(session, reference, only=True)
    check_owner(caller, row.created_by, "the task")
    repository.delete_task(session, row.id)
    return Response(status_code=204)
