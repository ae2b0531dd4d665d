"""/: what goes on, what there is, and how to begin."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from monosemy.specs.rest.queues import QueueView
from monosemy.specs.rest.runs import RunSummary
from monosemy.specs.rest.spend import SpendRow
from monosemy.specs.rest.system import Findings, Readiness
from service.edge.context import ContextDep, SessionDep
from service.pages import run_words
from service.pages.page import PageRouter
from service.pages.sae_figures import Listed, grouped
from service.pages.verdict import Verdict, findings_for, verdict
from service.pages.viewer import viewer_of
from service.queues import endpoints as queues
from service.runs import endpoints as runs
from service.saes import endpoints as saes
from service.spend import endpoints as spend
from service.system.endpoints import readiness

router = PageRouter()

MOST_SAES = 50
MOST_FAILED = 3
FAILED_WITHIN = dt.timedelta(days=7)
PATIENCE_SECONDS = 1.0
GOOD_SECONDS = 300.0
"""The look at all parts asks the judge: who opens this page often does not have it asked each
time."""


async def _findings(request: Request, context: ContextDep) -> Findings | None:
    return await findings_for(request, context, PATIENCE_SECONDS, GOOD_SECONDS)


@dataclass(frozen=True)
class Home:
    under_way: list[RunSummary]
    """Those that work, not the pipelines that they are steps of."""
    failed: list[RunSummary]
    """The last that failed within a week, but for steps."""
    waiting: int
    paused: list[QueueView]
    saes: dict[str, dict[str, list[Listed]]]
    """By host model and site."""
    more_saes: bool
    today: SpendRow
    verdict: Verdict
    any_runs: bool
    words: object = run_words


@router.page("/", "home.html", script="pages/home.js")
def home(
    request: Request,
    session: SessionDep,
    readiness: Annotated[Readiness, Depends(readiness)],
    findings: Annotated[Findings | None, Depends(_findings)],
) -> Home:
    page = saes.list_all(session, counts=True, limit=MOST_SAES)
    midnight = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    lines = queues.list_all(session).items
    held = [
        *runs.list_all(session, state="running").items,
        *runs.list_all(session, state="cancelling").items,
    ]
    failed = runs.list_all(session, state="failed", parent="none", limit=MOST_FAILED).items
    parents = {run.parent_id for run in held}
    return Home(
        under_way=[run for run in held if run.id not in parents],
        failed=[run for run in failed if run.created_at > dt.datetime.now(dt.UTC) - FAILED_WITHIN],
        waiting=sum(line.queued for line in lines),
        paused=[line for line in lines if line.paused],
        saes=grouped(page.items),
        more_saes=page.next_cursor is not None,
        today=spend.show(session, by="day", since=midnight).total,
        verdict=verdict(readiness, findings, viewer_of(request).can("admin")),
        any_runs=bool(held) or bool(runs.list_all(session, limit=1).items),
    )
