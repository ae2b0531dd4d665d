"""GET /queues, PATCH /queues/{name}"""

from __future__ import annotations

from typing import Annotated, Any, get_args

from fastapi import BackgroundTasks, Path
from sqlalchemy.orm import Session

from monosemy.specs.rest.queues import QueueChange, QueueName, Queues, QueueView
from monosemy.specs.run_states import HELD
from service.edge.context import ContextDep, SessionDep
from service.edge.routing import ApiRouter
from service.keys.authorize import CanAdminister, CanRead
from service.kit.problems import documented
from service.queues import repository
from service.runs.wake import wake

router = ApiRouter(prefix="/queues", tags=["runs"])

NAMES: tuple[QueueName, ...] = get_args(QueueName)


@router.get("", summary="List queues", dependencies=[CanRead])
def list_all(session: SessionDep) -> Queues:
    """With how many runs wait and are under way in each."""
    return Queues(items=_views(session))


@router.patch(
    "/{name}",
    summary="Pause, resume or limit a queue",
    dependencies=[CanAdminister],
    responses=documented(422),
)
def change(
    session: SessionDep,
    context: ContextDep,
    background: BackgroundTasks,
    name: Annotated[QueueName, Path(description="Which queue.")],
    body: QueueChange,
) -> QueueView:
    """Runs under way are left alone."""
    values: dict[str, Any] = {}
    if body.paused is not None:
        values["paused"] = body.paused
    if body.max_running is not None:
        values["max_running"] = body.max_running or None
    repository.change_queue(session, name, **values)
    background.add_task(wake, context.settings.redis_url, name)
    return next(view for view in _views(session) if view.name == name)


def _views(session: Session) -> list[QueueView]:
    numbers: dict[tuple[str, str], int] = {
        (queue, state): number for queue, state, number in repository.counts(session)
    }
    views = []
    for name in NAMES:
        row = repository.find_queue(session, name)
        views.append(
            QueueView(
                name=name,
                paused=row is not None and row.paused,
                max_running=row.max_running if row is not None else None,
                queued=numbers.get((name, "queued"), 0),
                running=sum(numbers.get((name, state), 0) for state in HELD),
                changed_at=row.changed_at if row is not None else None,
            )
        )
    return views
