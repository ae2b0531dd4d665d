"""/spend: what judges were asked, and what it cost."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Annotated, get_args

from fastapi import Query

from monosemy.specs.rest.spend import Grouping, SpendRow, SpendTable
from service.edge.context import SessionDep
from service.pages import run_words
from service.pages.navigation import Nav
from service.pages.page import PageRouter
from service.runs.queries import find_runs
from service.runs.submission import details_of
from service.spend import endpoints as rest

router = PageRouter()

PERIODS = {"today": 0, "7 days": 6, "30 days": 29}
"""Whole days (UTC) before today that are counted."""


@dataclass(frozen=True)
class Budget:
    """What a run may spend beside what it has."""

    run: uuid.UUID
    title: str
    limit: float
    cost: float


@dataclass(frozen=True)
class Spend:
    table: SpendTable
    groupings: tuple[str, ...]
    periods: list[str]
    by: str
    sae: str | None
    period: str | None
    most: float
    """The dearest row, or the one with the most calls where nothing cost anything."""
    titles: dict[str, str]
    """Of runs, by id."""
    budgets: list[Budget]
    words: object = run_words


@router.page("/spend", "spend.html", nav=Nav("Spend", 60, below="Runs"))
def spend(
    session: SessionDep,
    by: Grouping = "run",
    sae: Annotated[str | None, Query(max_length=200)] = None,
    period: Annotated[str | None, Query(max_length=20)] = None,
) -> Spend:
    today = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = PERIODS.get(period or "")
    since = None if days is None else today - dt.timedelta(days=days)
    table = rest.show(session, by=by, sae=sae, since=since)
    rows = {row.group: row for row in table.items if row.group is not None} if by == "run" else {}
    runs = find_runs(session, [uuid.UUID(group) for group in rows])
    details = details_of(session, runs)
    budgets = [
        Budget(run.id, run_words.title(run), limit, rows[str(run.id)].cost)
        for run in details
        if (limit := run_words.budget([run])) is not None
    ]
    return Spend(
        table=table,
        groupings=get_args(Grouping),
        periods=list(PERIODS),
        by=by,
        sae=sae,
        period=period if days is not None else None,
        most=max([weight(row, table) for row in table.items], default=0.0),
        titles={str(run.id): run_words.title(run) for run in details},
        budgets=budgets,
    )


def weight(row: SpendRow, table: SpendTable) -> float:
    """How long its bar is: by cost, by calls where nothing cost anything."""
    return row.cost if table.total.cost else float(row.calls)
