"""GET /runs/{run_id}/training: the readings of a training, while it runs and after."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Query, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from monosemy.errors import SpecError
from monosemy.specs import RunSpec, TrainRun, parse_stored_spec
from monosemy.specs.rest.training import SaeReadings, TrainingReadings
from monosemy.specs.run import NO_QUEUE
from monosemy.specs.run_states import ENDED
from monosemy.svg import policy
from monosemy.training.page import training_page
from service.database.tables import Run
from service.edge.context import SessionDep
from service.edge.routing import ApiRouter
from service.keys.authorize import CanRead
from service.kit.errors import InvalidRequest, Listing, NotFound
from service.kit.problems import documented
from service.runs.queries import get_family
from service.runs.readings import Curve, curve_in_events, stored_curves

router = ApiRouter(prefix="/runs", tags=["runs"], dependencies=[CanRead])

_POLICY = f"{policy()}; frame-ancestors 'none'"

_POINTS, _MOST_POINTS = 400, 10_000
"""Readings of an SAE that an answer has, if nothing else is asked for, and at most."""


@router.get(
    "/{run_id}/training",
    summary="See how a training goes",
    response_model=TrainingReadings,
    responses={
        200: {"description": "Readings, or a page of curves.", "content": {"text/html": {}}},
        **documented(404, 422),
    },
)
def show_training(
    request: Request,
    response: Response,
    session: SessionDep,
    run_id: uuid.UUID,
    place: Annotated[
        int | None, Query(ge=0, lt=2**15, description="Only the SAE at this place of a sweep.")
    ] = None,
    points: Annotated[
        int, Query(ge=1, le=_MOST_POINTS, description="Most readings of each SAE.")
    ] = _POINTS,
    after: Annotated[
        int | None, Query(ge=0, lt=2**63, description="Only readings past this step.")
    ] = None,
) -> TrainingReadings | HTMLResponse:
    """FVU, L0, loss with its terms, dead latents and learning rate of every SAE that the run
    trains, and the same of its frozen-decoder baseline; while it trains and for as long as the run
    is kept. A browser (`Accept: text/html`) gets a page of curves of one SAE, which loads itself
    again while the run goes on."""
    answer = training_of(session, run_id, points, place, after)
    if not prefers_html(request.headers.get("accept", "")):
        response.headers["Vary"] = "Accept"
        return answer
    first = answer.saes[0] if answer.saes else None
    run = session.get_one(Run, answer.run_id)
    page = training_page(
        {**(first.spec if first and first.spec else run.spec), **_named(first)},
        first.readings if first else [],
        ((first.metrics if first else None) or {}).get("density"),
        live=session.get_one(Run, run_id).state not in ENDED,
    )
    return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY, "Vary": "Accept"})


def training_of(
    session: Session,
    run_id: uuid.UUID,
    points: int = _POINTS,
    place: int | None = None,
    after: int | None = None,
) -> TrainingReadings:
    """Of a run or, where it is a pipeline, its step that trains: at most ``points`` readings of
    each SAE, past the step ``after``."""
    family = get_family(session, run_id)
    if family is None:
        raise NotFound("run", run_id, Listing.RUNS)
    run, specs = _training_run([family[0], *family[1]])
    curves = stored_curves(session, run.id, points, place, -1 if after is None else after)
    if after is None and not place and not curves:
        earlier = curve_in_events(session, run.id, points)
        curves = {0: earlier} if earlier.count else {}
    return TrainingReadings(
        run_id=run.id,
        state=run.state,  # type: ignore[arg-type]
        total_tokens=_total_tokens(specs),
        saes=_saes(run, specs, curves, place),
    )


def _training_run(family: Sequence[Run]) -> tuple[Run, Sequence[TrainRun]]:
    """Of a run and its steps the first that trains, and what it trains; the run itself, if none
    does."""
    for run in family:
        try:
            spec = parse_stored_spec({"kind": run.kind, **run.spec})
        except SpecError:
            continue  # of a plugin that is absent now
        if isinstance(spec, RunSpec) and spec.queue != NO_QUEUE and spec.trainings():
            return run, spec.trainings()
    return next((run for run in family if run.kind in ("train", "sweep")), family[0]), ()


def _total_tokens(specs: Sequence[TrainRun]) -> int | None:
    """Whole batches are trained on."""
    if not specs:
        return None
    training = specs[0].training
    return -(-training.tokens // training.batch_tokens) * training.batch_tokens


def _saes(
    run: Run, specs: Sequence[TrainRun], curves: Mapping[int, Curve], place: int | None
) -> list[SaeReadings]:
    """Every SAE of the run, or that at ``place``; 422 where there is none."""
    result = run.result or {}
    results = result.get("saes") or ([result] if result else [])
    count = max(len(specs), *(each + 1 for each in curves), 0)
    if place is not None and place >= count:
        raise InvalidRequest([("place", f"the run trains {count} SAEs, numbered from 0")])
    saes = []
    for number in range(count) if place is None else [place]:
        made: dict[str, Any] = results[number] if number < len(results) else {}
        curve = curves.get(number, Curve())
        spec = specs[number] if number < len(specs) else None
        saes.append(
            SaeReadings(
                place=number,
                name=made.get("name") or (spec.name if spec else None),
                sae_id=made.get("sae_id"),
                spec=spec.model_dump(mode="json") if spec else {},
                metrics=made.get("metrics"),
                recorded=curve.count,
                readings=list(curve.readings),
            )
        )
    return saes


def _named(sae: SaeReadings | None) -> dict[str, Any]:
    return {"name": sae.name} if sae is not None and sae.name else {}


def prefers_html(accept: str) -> bool:
    """Whether a caller that sends this ``Accept`` asks for HTML, and for it before JSON: browsers
    do, programs that take anything do not."""
    weights: dict[str, float] = {}
    for part in accept.split(","):
        media_type, *parameters = (each.strip().lower() for each in part.split(";"))
        weights[media_type] = next((_weight(each) for each in parameters if each[:2] == "q="), 1.0)
    html = weights.get("text/html", weights.get("text/*", 0.0))
    anything = weights.get("application/*", weights.get("*/*", 0.0))
    return html > weights.get("application/json", anything)


def _weight(parameter: str) -> float:
    try:
        return float(parameter[2:])
    except ValueError:
        return 0.0
