"""Forms that submit a run, or change one: cancel, retry, priority.  They lead to its page."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import BackgroundTasks, Form, Request
from starlette.responses import Response

from monosemy.specs import parse_spec
from monosemy.specs.rest.runs import RunChange, SpecDraft
from service.edge.context import ContextDep, SessionDep
from service.keys.authorize import CallerDep, CanRun
from service.pages.page import PageRouter, go_to, shown
from service.pages.views.run_form import FIRST_KIND, form_of
from service.runs import endpoints as rest
from service.runs.drafts import read_draft
from service.runs.submission import Submitting

router = PageRouter(CanRun)


@router.page("/runs/new", "run_form.html", method="POST")
def submit(
    session: SessionDep,
    context: ContextDep,
    background: BackgroundTasks,
    request: Request,
    response: Response,
    caller: CallerDep,
    text: Annotated[str, Form(max_length=100_000)],
    priority: Annotated[int, Form(ge=-100, le=100)] = 0,
) -> Response:
    """The YAML as it is; with faults the form comes back, and says them."""
    reading = read_draft(session, context, caller, SpecDraft(text=text))
    if reading.spec is None or reading.errors:
        kind = str((reading.spec or {}).get("kind", FIRST_KIND))
        form = form_of(text, kind, reading.errors, priority=priority)
        return shown(request, "run_form.html", form, script="pages/run_form.js", status=422)
    submitting = Submitting(session, context, background, request, response, caller, priority)
    family = submitting.take(parse_spec(reading.spec))
    return go_to(request, f"/runs/{family.id}")


@router.page("/runs/{run_id}/cancel", "run.html", method="POST")
def cancel(session: SessionDep, caller: CallerDep, request: Request, run_id: uuid.UUID) -> Response:
    rest.cancel(session, caller, run_id)
    return _back(request, run_id)


@router.page("/runs/{run_id}/retry", "run.html", method="POST")
def retry(
    session: SessionDep,
    context: ContextDep,
    background: BackgroundTasks,
    caller: CallerDep,
    request: Request,
    run_id: uuid.UUID,
) -> Response:
    rest.retry(session, context, background, caller, run_id)
    return _back(request, run_id)


@router.page("/runs/{run_id}/priority", "run.html", method="POST")
def prioritise(
    session: SessionDep,
    caller: CallerDep,
    request: Request,
    run_id: uuid.UUID,
    priority: Annotated[int, Form(ge=-100, le=100)],
) -> Response:
    rest.prioritise(session, caller, run_id, RunChange(priority=priority))
    return _back(request, run_id)


@router.page("/runs/{run_id}/delete", "run.html", method="POST")
def delete(session: SessionDep, caller: CallerDep, request: Request, run_id: uuid.UUID) -> Response:
    rest.remove(session, caller, run_id)
    return go_to(request, "/runs")


def _back(request: Request, run_id: uuid.UUID) -> Response:
    return go_to(request, f"/runs/{run_id}")
