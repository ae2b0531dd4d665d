"""GET /saes/{sae}/report, as JSON or as a page"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session

from monosemy.interp.report.page import report_page
from service.context import AppContext, ContextDep, SessionDep
from service.keys.authorize import CanRead
from service.problems import documented
from service.reports.service import sae_report
from service.routing import Router
from service.saes.endpoints import SaeReference
from service.saes.repository import find_sae

router = Router(prefix="/saes/{sae}/report", tags=["explanations"], dependencies=[CanRead])

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"

Reference = Annotated[
    str | None,
    Query(max_length=200, description="An SAE to compare with, such as one with random weights."),
]


@router.get("", summary="Report on an SAE's scores", responses=documented(404, 409, 422))
def show(
    session: SessionDep, context: ContextDep, sae: SaeReference, reference: Reference = None
) -> dict[str, Any]:
    """Of every scorer the distribution beside its baselines, medians, intervals, strata, tiers and
    cost; agreement between scorers; labels that features share; the best and the worst."""
    return _report(session, context, sae, reference)


@router.get(
    "/page",
    summary="See the report on an SAE's scores",
    response_class=HTMLResponse,
    responses={
        200: {"description": "A page of plots.", "content": {"text/html": {}}},
        **documented(404, 409, 422),
    },
)
def page(
    session: SessionDep, context: ContextDep, sae: SaeReference, reference: Reference = None
) -> Response:
    """The same, drawn: one page without scripts, to be kept or sent on."""
    found = _report(session, context, sae, reference)
    return HTMLResponse(report_page(found), headers={"Content-Security-Policy": _POLICY})


def _report(
    session: Session, context: AppContext, sae: str, reference: str | None
) -> dict[str, Any]:
    found, _ = find_sae(session, sae)
    other = find_sae(session, reference)[0] if reference is not None else None
    return sae_report(session, found, other, context.settings)
