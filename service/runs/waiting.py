"""GET /runs/{run_id}/waiting, GET /runs/{run_id}/log"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy.orm import Session

from monosemy.specs.rest.page import Page
from monosemy.specs.rest.runs import RunEventMessage, RunWaiting, WaitsFor
from monosemy.specs.run import NO_QUEUE
from service.database.tables import Run, RunEvent
from service.edge.context import SessionDep
from service.edge.routing import ApiRouter
from service.keys.authorize import CanRead
from service.kit.errors import Listing, NotFound
from service.kit.pagination import DEFAULT_LIMIT, CursorParam, Limit, Order, each, number_of, paged
from service.kit.problems import documented
from service.queues import repository as queues
from service.runs import repository
from service.runs.queries import family_log, get_family

router = ApiRouter(prefix="/runs", tags=["runs"], dependencies=[CanRead])

_BY_ID: Order[RunEvent, int] = Order((int,), lambda row: (row.id,), number_of(2**63))


@router.get("/{run_id}/waiting", summary="See what a run waits for", responses=documented(404, 422))
def show_waiting(session: SessionDep, run_id: uuid.UUID) -> RunWaiting:
    """Its place in its queue, or what else it waits for; of a pipeline, that of its first step that
    is queued."""
    family = get_family(session, run_id)
    if family is None:
        raise NotFound("run", run_id, Listing.RUNS)
    run, children = family
    if run.queue == NO_QUEUE:
        run = next((child for child in children if child.state == "queued"), run)
    waits_for = _waits_for(session, run)
    standing = run.state == "queued" and waits_for not in ("time", "run")
    return RunWaiting(
        run_id=run.id,
        queue=run.queue,
        waits_for=waits_for,
        ahead=repository.count_ahead(session, run) if standing else None,
        under_way=queues.under_way(session, run.queue),
        until=run.not_before if waits_for == "time" else None,
        depends_on=run.depends_on if waits_for == "run" else None,
    )


def _waits_for(session: Session, run: Run) -> WaitsFor:
    if run.state != "queued" or run.queue == NO_QUEUE:
        return "nothing"
    if not repository.is_due(session, run):
        return "time"
    if repository.waits_for_a_run(session, run):
        return "run"
    control = queues.find_queue(session, run.queue)
    if control is not None and control.paused:
        return "paused queue"
    if control is not None and repository.is_full(session, control):
        return "full queue"
    if queues.key_of_run_is_full(session, run.id):
        return "full key"
    return "turn"


@router.get("/{run_id}/log", summary="Read the log of a run", responses=documented(404, 422))
def show_log(
    session: SessionDep,
    run_id: uuid.UUID,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[RunEventMessage]:
    """What the run and its steps told, and how their states changed, the newest first; progress is
    left out."""
    if session.get(Run, run_id) is None:
        raise NotFound("run", run_id, Listing.RUNS)

    def read(before: int | None, most: int) -> Sequence[RunEvent]:
        return family_log(session, run_id, before, most)

    listing = ("log", str(run_id))
    return paged(listing, _BY_ID, cursor, limit, read, each(RunEventMessage.model_validate))
