"""GET /saes/{sae}/report, as JSON or as a page, and what it comes to"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import Query
from fastapi.encoders import jsonable_encoder
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import Field

from monosemy.interp.report.beside_page import beside_page
from monosemy.interp.report.page import report_page
from monosemy.specs.rest.reports import MOST_BESIDE, ReportSummary
from monosemy.svg import policy
from service.database.session import transaction
from service.edge.context import AppContext, ContextDep
from service.edge.routing import ApiRouter
from service.keys.authorize import CanRead
from service.kit.problems import documented
from service.reports.service import beside_report, report_summary, sae_report
from service.saes.endpoints import SaeReference
from service.saes.repository import find_sae

router = ApiRouter(prefix="/saes/{sae}/report", tags=["explanations"], dependencies=[CanRead])

_POLICY = f"{policy()}; frame-ancestors 'none'"

Reference = Annotated[
    str | None,
    Query(max_length=200, description="An SAE to compare with, such as one with random weights."),
]

Others = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=200)]],
    Query(
        min_length=1,
        max_length=MOST_BESIDE,
        description="SAEs or bases to stand beside it: neurons, random directions.",
    ),
]


@router.get(
    "",
    summary="Report on an SAE's scores",
    response_model=dict[str, Any],
    responses=documented(404, 409, 422),
)
async def show(context: ContextDep, sae: SaeReference, reference: Reference = None) -> Response:
    """Of every scorer the distribution beside its baselines, medians, intervals, strata, tiers and
    cost; agreement between scorers; labels that features share; the best and the worst."""
    work = partial(report_of, context, sae, reference)
    return await context.lanes.reports.run(lambda: JSONResponse(jsonable_encoder(work())))


@router.get(
    "/summary",
    summary="Count the features that are told apart",
    response_model=ReportSummary,
    responses=documented(404, 422),
)
async def summary(context: ContextDep, sae: SaeReference) -> ReportSummary:
    """Of every scorer how many features it tells apart from another feature's explanation, one by
    one and at a false discovery rate of 5 %; quicker than the report."""

    def work() -> ReportSummary:
        with transaction(context.engine) as session:
            return report_summary(session, find_sae(session, sae)[0])

    return await context.lanes.reports.run(work)


@router.get(
    "/page",
    summary="See the report on an SAE's scores",
    response_class=HTMLResponse,
    responses={
        200: {"description": "A page of plots.", "content": {"text/html": {}}},
        **documented(404, 409, 422),
    },
)
async def page(context: ContextDep, sae: SaeReference, reference: Reference = None) -> Response:
    """The same, drawn: one page without scripts, to be kept or sent on."""
    work = partial(report_of, context, sae, reference)
    drawn = await context.lanes.reports.run(lambda: report_page(work()))
    return HTMLResponse(drawn, headers={"Content-Security-Policy": _POLICY})


@router.get(
    "/beside",
    summary="Hold an SAE's scores against those of bases",
    response_model=dict[str, Any],
    responses=documented(404, 409, 422),
)
async def beside(context: ContextDep, sae: SaeReference, other: Others) -> Response:
    """Of every scorer that all have: the distributions, medians overall and by density, shares told
    apart from the shuffled baseline, and the difference from each other one in numbers and words.
    """
    work = partial(beside_of, context, sae, other)
    return await context.lanes.reports.run(lambda: JSONResponse(jsonable_encoder(work())))


@router.get(
    "/beside/page",
    summary="See an SAE's scores beside those of bases",
    response_class=HTMLResponse,
    responses={
        200: {"description": "A page of plots.", "content": {"text/html": {}}},
        **documented(404, 409, 422),
    },
)
async def beside_drawn(context: ContextDep, sae: SaeReference, other: Others) -> Response:
    """The same, drawn: one page without scripts, to be kept or sent on."""
    work = partial(beside_of, context, sae, other)
    drawn = await context.lanes.reports.run(lambda: beside_page(work()))
    return HTMLResponse(drawn, headers={"Content-Security-Policy": _POLICY})


def beside_of(context: AppContext, sae: str, others: Sequence[str]) -> dict[str, Any]:
    """For a thread of its own.  ``NotFound``; ``Conflict`` where there is nothing to hold against
    each other; ``InvalidRequest`` for one that is named twice."""
    with transaction(context.engine) as session:
        rows = [find_sae(session, name)[0] for name in (sae, *others)]
        return beside_report(session, rows)


def report_of(context: AppContext, sae: str, reference: str | None) -> dict[str, Any]:
    """For a thread of its own: it takes seconds.  ``NotFound``; ``Conflict`` without scores."""
    with transaction(context.engine) as session:
        row, _ = find_sae(session, sae)
        other = find_sae(session, reference)[0] if reference is not None else None
        return sae_report(session, row, other, context.settings)
