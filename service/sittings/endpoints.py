"""POST /explanations/{id}/sittings; a sitting shown, answered, ended, deleted"""

from __future__ import annotations

import uuid
from functools import partial
from typing import Annotated

from fastapi import Path, Response

from monosemy.specs.rest.explanations import ScoreView
from monosemy.specs.rest.sittings import NewSitting, SittingAnswer, SittingProgress, SittingView
from monosemy.workspace import Workspace
from service.database.session import transaction
from service.edge.context import AppContext, ContextDep, SessionDep
from service.edge.routing import ApiRouter
from service.explanations.endpoints import ExplanationId
from service.keys.authorize import CallerDep, CanRead, CanRun
from service.kit.problems import documented
from service.sittings import service

router = ApiRouter(tags=["explanations"])

SittingId = Annotated[uuid.UUID, Path(description="Id of the sitting.")]
TextNumber = Annotated[int, Path(ge=0, lt=1000, description="Of the text, from 0.")]


@router.post(
    "/explanations/{explanation}/sittings",
    status_code=201,
    summary="Take the detection test yourself",
    dependencies=[CanRun],
    responses={
        200: {"model": SittingView, "description": "The one that you have open goes on."},
        **documented(404, 409, 422),
    },
)
async def begin(
    context: ContextDep,
    caller: CallerDep,
    response: Response,
    explanation: ExplanationId,
    body: NewSitting,
) -> SittingView:
    """Texts of the documents kept for scoring, as a judge would be shown them; which of them
    activate is told at the end."""
    view, new = await context.lanes.exports.run(
        partial(_begun, context, explanation, body, caller.name)
    )
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/api/v1/sittings/{view.id}"
    return view


def _begun(
    context: AppContext, explanation: uuid.UUID, body: NewSitting, taker: str
) -> tuple[SittingView, bool]:
    workspace = Workspace(context.settings.artifacts)
    with transaction(context.engine) as session:
        row, new = service.begin_sitting(session, workspace, explanation, body, taker)
        return service.sitting_view(session, row), new


@router.get(
    "/sittings/{sitting}",
    summary="Show a sitting",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def show(session: SessionDep, sitting: SittingId) -> SittingView:
    """Its texts and what was answered; in which the feature fires, once it has ended."""
    return service.sitting_view(session, service.require_sitting(session, sitting))


@router.put(
    "/sittings/{sitting}/answers/{number}",
    summary="Answer a text of a sitting",
    dependencies=[CanRun],
    responses=documented(404, 409, 422),
)
def answer(
    session: SessionDep,
    caller: CallerDep,
    sitting: SittingId,
    number: TextNumber,
    body: SittingAnswer,
) -> SittingProgress:
    """A later answer replaces it, until the sitting has ended."""
    row = service.lock_open(session, sitting, caller)
    return service.set_answer(session, row, number, body)


@router.delete(
    "/sittings/{sitting}/answers/{number}",
    summary="Take an answer of a sitting back",
    dependencies=[CanRun],
    responses=documented(404, 409, 422),
)
def take_back(
    session: SessionDep, caller: CallerDep, sitting: SittingId, number: TextNumber
) -> SittingProgress:
    """The text counts as not asked yet."""
    return service.set_answer(session, service.lock_open(session, sitting, caller), number, None)


@router.post(
    "/sittings/{sitting}/score",
    status_code=201,
    summary="End a sitting",
    dependencies=[CanRun],
    responses=documented(404, 409, 422),
)
def end(session: SessionDep, caller: CallerDep, sitting: SittingId) -> ScoreView:
    """The score of its answers, with the interval that a judge's would have: listed under
    `detection:human`.  Texts without an answer count as failed."""
    return ScoreView.model_validate(service.end_sitting(session, sitting, caller))


@router.delete(
    "/sittings/{sitting}",
    status_code=204,
    summary="Delete a sitting",
    dependencies=[CanRun],
    responses=documented(404, 409, 422),
)
def remove(session: SessionDep, caller: CallerDep, sitting: SittingId) -> None:
    """One that has not ended. Only for the API key that takes it and for administrators."""
    session.delete(service.lock_open(session, sitting, caller))
