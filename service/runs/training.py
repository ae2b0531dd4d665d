"""GET /runs/{run_id}/training: the curves of a training, while it runs and after."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi.responses import HTMLResponse

from monosemy.specs.run_states import ENDED
from monosemy.training.page import training_page
from service.edge.context import SessionDep
from service.edge.routing import Router
from service.keys.authorize import CanRead
from service.kit.errors import NotFound
from service.kit.problems import documented
from service.runs.queries import get_family, training_readings

router = Router(prefix="/runs", tags=["runs"], dependencies=[CanRead])

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"

_POINTS = 400
"""Readings that a page draws."""


@router.get(
    "/{run_id}/training",
    summary="See how a training goes",
    response_class=HTMLResponse,
    responses={
        200: {"description": "A page of curves.", "content": {"text/html": {}}},
        **documented(404, 422),
    },
)
def show_training(session: SessionDep, run_id: uuid.UUID) -> HTMLResponse:
    """Loss, FVU beside that of the frozen-decoder baseline, L0, dead latents, learning rate and,
    at the end, the density histogram. Of a sweep, the curves of its first SAE. The page loads
    itself again while the run goes on."""
    found = get_family(session, run_id)
    if found is None:
        raise NotFound("run", run_id)
    run, children = found
    trained = next((each for each in [run, *children] if each.kind in ("train", "sweep")), run)
    page = training_page(
        trained.spec,
        [_renamed(reading) for reading in training_readings(session, run_id, _POINTS)],
        _histogram(trained.result or {}),
        live=run.state not in ENDED,
    )
    return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})


def _renamed(reading: dict[str, Any]) -> dict[str, Any]:
    """As the history names it."""
    return {"dead_share" if name == "dead" else name: value for name, value in reading.items()}


def _histogram(result: dict[str, Any]) -> dict[str, Any] | None:
    made = (result.get("saes") or [result])[0]
    histogram: dict[str, Any] | None = made.get("metrics", {}).get("density")
    return histogram
