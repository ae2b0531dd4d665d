"""/: what goes on, what there is, and how to begin."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from monosemy.specs.rest.queues import QueueView
from monosemy.specs.rest.runs import RunSummary
from monosemy.specs.rest.spend import SpendRow
from monosemy.specs.rest.system import Readiness
from service.edge.context import SessionDep
from service.pages import run_words
from service.pages.page import PageRouter
from service.pages.sae_figures import Listed, grouped
from service.queues import endpoints as queues
from service.runs import endpoints as runs
from service.saes import endpoints as saes
from service.spend import endpoints as spend
from service.system.endpoints import readiness

router = PageRouter()

MOST_SAES = 50


@dataclass(frozen=True)
class Home:
    under_way: list[RunSummary]
    """Those that work, not the pipelines that they are steps of."""
    waiting: int
    paused: list[QueueView]
    saes: dict[str, dict[str, list[Listed]]]
    """By host model and site."""
    more_saes: bool
    today: SpendRow
    readiness: Readiness
    any_runs: bool
    words: object = run_words


@router.page("/", "home.html", script="pages/home.js")
def home(session: SessionDep, readiness: Annotated[Readiness, Depends(readiness)]) -> Home:
    page = saes.list_all(session, counts=True, limit=MOST_SAES)
    midnight = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    lines = queues.list_all(session).items
    held = [
        *runs.list_all(session, state="running").items,
        *runs.list_all(session, state="cancelling").items,
    ]
    parents = {run.parent_id for run in held}
    return Home(
        under_way=[run for run in held if run.id not in parents],
        waiting=sum(line.queued for line in lines),
        paused=[line for line in lines if line.paused],
        saes=grouped(page.items),
        more_saes=page.next_cursor is not None,
        today=spend.show(session, by="day", since=midnight).total,
        readiness=readiness,
        any_runs=bool(held) or bool(runs.list_all(session, limit=1).items),
    )
