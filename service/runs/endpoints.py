"""POST/GET/DELETE /runs, their events, cancel and retry"""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import BackgroundTasks, Body, Header, Query, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from monosemy.specs import parse_spec
from monosemy.specs.rest.page import Page
from monosemy.specs.rest.runs import KnownKind, RunChange, RunFamily, RunState, RunSummary
from service.concurrency.streams import HeldStream
from service.database.session import transaction
from service.database.tables import Run
from service.edge.context import AppContext, ContextDep, SessionDep
from service.edge.routing import ApiRouter
from service.keys.authorize import Caller, CallerDep, CanRead, CanRun, KeyId
from service.keys.ownership import check_owner, check_priority
from service.kit.errors import Listing, NotFound
from service.kit.pagination import DEFAULT_LIMIT, CursorParam, Limit, by_time, each, paged
from service.kit.problems import documented
from service.observability import logs
from service.runs.deletion import delete_run
from service.runs.events_stream import EventFeed, event_stream
from service.runs.lifecycle import cancel_run, prioritise_run, retry_run
from service.runs.queries import RunFilter, list_runs
from service.runs.subjects import name_subjects
from service.runs.submission import SubmittingDep, announce, family_of

router = ApiRouter(prefix="/runs", tags=["runs"])

SPEC_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/RunSpec"},
                "example": {"kind": "pipeline", "name": "demo", "training": {"tokens": 1_500_000}},
            }
        },
    }
}


@router.post(
    "",
    status_code=201,
    summary="Submit a run",
    dependencies=[CanRun],
    openapi_extra=SPEC_BODY,
    responses=documented(409, 413, 422),
)
def submit(submitting: SubmittingDep, spec: Annotated[Any, Body()]) -> RunFamily:
    """The body is a run spec. A pipeline is stored with the runs that it consists of. Sent again
    with the same `Idempotency-Key` within a day, it is the same run. The name of a concept or a
    graph that is taken is refused (409); an SAE whose name is taken gets a number, and `warnings`
    says so. Priorities above 0 are for administrators; so are runs that evaluate or index an SAE of
    another API key."""
    return submitting.take(parse_spec(spec))


@router.get("", summary="List runs", dependencies=[CanRead], responses=documented(422))
def list_all(
    session: SessionDep,
    state: RunState | None = None,
    kind: KnownKind | None = None,
    parent: Annotated[
        uuid.UUID | Literal["none"] | None,
        Query(description="Only the steps of this pipeline, or `none`: only runs of their own."),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[RunSummary]:
    """Newest first."""
    filters = RunFilter(
        state=state,
        kind=kind,
        parent=parent if isinstance(parent, uuid.UUID) else None,
        top_level=parent == "none",
    )
    listing = ("runs", state, kind, str(parent))
    read = partial(list_runs, session, filters)
    page = paged(listing, by_time(), cursor, limit, read, each(RunSummary.model_validate))
    name_subjects(session, page.items)
    return page


@router.get(
    "/{run_id}", summary="Show a run", dependencies=[CanRead], responses=documented(404, 422)
)
def show_run(session: SessionDep, run_id: uuid.UUID) -> RunFamily:
    """A pipeline comes with its steps."""
    return family_of(session, run_id)


@router.get(
    "/{run_id}/events",
    summary="Follow a run",
    dependencies=[CanRead],
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: `state`, `progress`, `stage`, `log`, each with a"
            " RunEventMessage as data.",
            "content": {"text/event-stream": {}},
        },
        204: {"description": "The run has ended and there is nothing after `Last-Event-ID`."},
        **documented(404, 422, 503),
    },
)
async def follow(
    context: ContextDep,
    key: KeyId,
    run_id: uuid.UUID,
    last_event_id: Annotated[int | None, Header(ge=0, lt=2**63)] = None,
    after: Annotated[
        int | None, Query(ge=0, lt=2**63, description="As `Last-Event-ID`, which goes before it.")
    ] = None,
) -> Response:
    """Every event of the run and of its steps from the first, or from the one after
    `Last-Event-ID`; ends when the run has."""
    start = last_event_id if last_event_id is not None else after
    lane = context.lanes.events
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(context.lanes.streams.hold(key))
        if await lane.run(partial(_nothing_to_follow, context, run_id, start)):
            # 204 tells a browser's EventSource not to connect again.
            return Response(status_code=204)
        events = event_stream(context.engine, run_id, start or 0, lane=lane)
        return HeldStream(events, "text/event-stream", stack.pop_all())


def _nothing_to_follow(context: AppContext, run_id: uuid.UUID, start: int | None) -> bool:
    """Whether the run has ended and nothing came after ``start``; 404 where there is no run."""
    with transaction(context.engine) as session:
        family_of(session, run_id)
    if start is None:
        return False
    events, ended = EventFeed(context.engine, run_id, start).poll()
    return ended and not events


@router.patch(
    "/{run_id}",
    summary="Put a run before or behind others",
    dependencies=[CanRun],
    responses=documented(404, 409, 422),
)
def prioritise(
    session: SessionDep, caller: CallerDep, run_id: uuid.UUID, body: RunChange
) -> RunFamily:
    """A pipeline with all its steps. What is under way is not interrupted. Only for the API key
    that submitted it and for administrators; priorities above 0 for the latter."""
    run = _own(session, run_id, caller)
    check_priority(caller, body.priority)
    prioritise_run(session, run, body.priority)
    return family_of(session, run_id)


@router.delete(
    "/{run_id}",
    status_code=204,
    summary="Delete a run",
    dependencies=[CanRun],
    responses=documented(404, 409, 422),
)
def remove(session: SessionDep, caller: CallerDep, run_id: uuid.UUID) -> None:
    """One that has ended, a pipeline with its steps; what it made stays. Only for the API key that
    submitted it and for administrators."""
    delete_run(session, run_id, caller)


@router.post(
    "/{run_id}/cancel",
    summary="Cancel a run",
    dependencies=[CanRun],
    responses=documented(404, 409, 422),
)
def cancel(session: SessionDep, caller: CallerDep, run_id: uuid.UUID) -> RunFamily:
    """A run under way stops at its next step and keeps its checkpoint; so do a pipeline's steps.
    Only for the API key that submitted it and for administrators."""
    cancel_run(session, _own(session, run_id, caller))
    return family_of(session, run_id)


@router.post(
    "/{run_id}/retry",
    summary="Retry a run",
    dependencies=[CanRun],
    responses=documented(404, 409, 422),
)
def retry(
    session: SessionDep,
    context: ContextDep,
    background: BackgroundTasks,
    caller: CallerDep,
    run_id: uuid.UUID,
) -> RunFamily:
    """Takes a failed or cancelled run up again, from its checkpoint where there is one. Only for
    the API key that submitted it and for administrators."""
    retry_run(session, _own(session, run_id, caller))
    family = family_of(session, run_id)
    announce(background, context, family)
    return family


def _own(session: Session, run_id: uuid.UUID, caller: Caller) -> Run:
    """404 if there is no such run, 403 if somebody else submitted it."""
    logs.run_id.set(str(run_id))
    run = session.get(Run, run_id)
    if run is None:
        raise NotFound("run", run_id, Listing.RUNS)
    check_owner(caller, run.created_by, "the run")
    return run
