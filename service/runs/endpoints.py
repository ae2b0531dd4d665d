"""POST/GET /runs, their events, cancel and retry"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, Body, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from monosemy.specs import parse_spec
from service import logs
from service.context import ContextDep, SessionDep
from service.database.session import transaction
from service.database.tables import Run
from service.keys.authorize import CanRead, CanRun, KeyId
from service.pagination import (
    DEFAULT_LIMIT,
    CursorParam,
    Limit,
    Page,
    cut,
    decode_time_cursor,
    encode_time_cursor,
)
from service.problems import documented, not_found
from service.runs.events_stream import EventFeed, event_stream
from service.runs.idempotency import IdempotencyKey
from service.runs.lifecycle import cancel_run, prioritise_run, retry_run
from service.runs.queries import RunFilter, list_runs
from service.runs.schemas import RunChange, RunFamily, RunKind, RunState, RunSummary
from service.runs.submission import announce, check_names, family_of, submitted

router = APIRouter(prefix="/runs", tags=["runs"])

Priority = Annotated[
    int, Query(ge=-100, le=100, description="Of runs that wait, those with a higher one go first.")
]

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
    responses=documented(413, 422),
)
def submit(
    session: SessionDep,
    context: ContextDep,
    background: BackgroundTasks,
    request: Request,
    response: Response,
    key: KeyId,
    spec: Annotated[Any, Body()],
    priority: Priority = 0,
    idempotency_key: IdempotencyKey = None,
) -> RunFamily:
    """The body is a run spec. A pipeline is stored with the runs that it consists of. Sent again
    with the same `Idempotency-Key` within a day, it is the same run."""
    parsed = parse_spec(spec)
    check_names(session, parsed)
    once = idempotency_key
    return submitted(session, context, background, request, response, parsed, key, once, priority)


@router.get("", summary="List runs", dependencies=[CanRead], responses=documented(422))
def list_all(
    session: SessionDep,
    state: RunState | None = None,
    kind: RunKind | None = None,
    parent: Annotated[
        uuid.UUID | Literal["none"] | None,
        Query(description="Only the steps of this pipeline, or `none`: only runs of their own."),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[RunSummary]:
    """Newest first."""
    wanted = RunFilter(
        state=state,
        kind=kind,
        parent=parent if isinstance(parent, uuid.UUID) else None,
        top_level=parent == "none",
    )
    listing = ("runs", state, kind, str(parent))
    rows, more = cut(
        list_runs(session, wanted, decode_time_cursor(listing, cursor), limit + 1), limit
    )
    return Page(
        items=[RunSummary.model_validate(run) for run in rows],
        next_cursor=encode_time_cursor(listing, rows, more),
    )


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
        **documented(404, 422),
    },
)
def follow(
    context: ContextDep,
    run_id: uuid.UUID,
    last_event_id: Annotated[int | None, Header(ge=0, lt=2**63)] = None,
    after: Annotated[
        int | None, Query(ge=0, lt=2**63, description="As `Last-Event-ID`, which goes before it.")
    ] = None,
) -> Response:
    """Every event of the run and of its steps from the first, or from the one after
    `Last-Event-ID`; ends when the run has."""
    given = last_event_id if last_event_id is not None else after
    with transaction(context.engine) as session:
        family_of(session, run_id)
    if given is not None:
        events, ended = EventFeed(context.engine, run_id, given).poll()
        if ended and not events:
            # 204 tells a browser's EventSource not to connect again.
            return Response(status_code=204)
    return StreamingResponse(
        event_stream(context.engine, run_id, given or 0),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


@router.patch(
    "/{run_id}",
    summary="Put a run before or behind others",
    dependencies=[CanRun],
    responses=documented(404, 409, 422),
)
def prioritise(session: SessionDep, run_id: uuid.UUID, body: RunChange) -> RunFamily:
    """A pipeline with all its steps. What is under way is not interrupted."""
    prioritise_run(session, _locate(session, run_id), body.priority)
    return family_of(session, run_id)


@router.post(
    "/{run_id}/cancel",
    summary="Cancel a run",
    dependencies=[CanRun],
    responses=documented(404, 409, 422),
)
def cancel(session: SessionDep, run_id: uuid.UUID) -> RunFamily:
    """A run under way stops at its next step and keeps its checkpoint; so do a pipeline's steps."""
    run = _locate(session, run_id)
    cancel_run(session, run)
    return family_of(session, run_id)


@router.post(
    "/{run_id}/retry",
    summary="Retry a run",
    dependencies=[CanRun],
    responses=documented(404, 409, 422),
)
def retry(
    session: SessionDep, context: ContextDep, background: BackgroundTasks, run_id: uuid.UUID
) -> RunFamily:
    """Takes a failed or cancelled run up again, from its checkpoint where there is one."""
    run = _locate(session, run_id)
    retry_run(session, run)
    family = family_of(session, run_id)
    announce(background, context, family)
    return family


def _locate(session: Session, run_id: uuid.UUID) -> Run:
    logs.run_id.set(str(run_id))
    run = session.get(Run, run_id)
    if run is None:
        raise not_found("run", run_id)
    return run
