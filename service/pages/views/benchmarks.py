"""/leaderboards and /benchmarks: how good SAEs are, and which can be told apart."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Query

from monosemy.benchmarking.saebench_file import KNOWN_TO_SAEBENCH
from monosemy.specs.parse import write_spec
from monosemy.specs.part import NAME, PLACE
from monosemy.specs.rest.benchmarks import (
    BenchmarkFigure,
    BenchmarkMetric,
    BenchmarkRow,
    BenchmarkView,
    Leaderboard,
    LeaderboardHeader,
)
from service.benchmarks import endpoints
from service.benchmarks.endpoints import ProtocolReference, ResultReference, answered_board
from service.edge.context import ContextDep, SessionDep
from service.kit.pagination import DEFAULT_LIMIT, CursorParam
from service.pages.navigation import Nav
from service.pages.page import PageRouter
from service.runs.queries import find_runs

router = PageRouter()

MOST_UNITS = 500
"""That a page lists; the whole result is JSON."""
METRIC_WORDS = {"auc": "AUC", "ce": "CE", "kl": "KL", "l0": "L0", "f1": "F1"}


def words_of(metric: str) -> str:
    """``ce_score_zero`` as ``CE score zero``; a version keeps its points."""
    metric = re.sub(r"_(\d+)_(\d+)_(\d+)$", r"_\1.\2.\3", metric)
    return " ".join(METRIC_WORDS.get(each, each) for each in metric.split("_"))


@dataclass(frozen=True)
class Boards:
    boards: list[LeaderboardHeader]
    benchmark: str | None
    model: str | None
    site: str | None


@router.page(
    "/leaderboards",
    "leaderboards.html",
    nav=Nav("Benchmarks", 15, also=("/benchmarks",), below="SAEs"),
)
def leaderboards(
    session: SessionDep,
    benchmark: Annotated[str | None, Query(max_length=NAME)] = None,
    model: Annotated[str | None, Query(max_length=1000)] = None,
    site: Annotated[str | None, Query(max_length=PLACE)] = None,
) -> Boards:
    found = endpoints.list_boards(session, benchmark, model, site)
    return Boards(found.items, benchmark, model, site)


@dataclass(frozen=True)
class OneBoard:
    it: Leaderboard
    ends: tuple[float, float]
    """Of the scale that all rows are drawn on."""
    subjects: list[str]
    """What stands beside the SAEs."""
    beside: list[dict[str, BenchmarkFigure]]
    """By row and subject."""
    options: str
    again: str
    """What another run is submitted with."""
    words: Callable[[str], str] = words_of


@router.page("/leaderboards/{protocol}", "leaderboard.html")
async def leaderboard(
    context: ContextDep,
    reference: ProtocolReference,
    metric: Annotated[str | None, Query(max_length=NAME)] = None,
    against: Annotated[str | None, Query(max_length=200)] = None,
) -> OneBoard:
    it = await context.lanes.reports.run(
        partial(answered_board, context, reference, metric, against)
    )
    figures = [figure for row in it.rows for figure in (row.figure, *row.beside)]
    return OneBoard(
        it=it,
        ends=_ends(figures),
        subjects=list(dict.fromkeys(each.subject for row in it.rows for each in row.beside)),
        beside=[{each.subject: each for each in row.beside} for row in it.rows],
        options=write_spec(it.options),
        again=f"benchmarks=[{json.dumps(it.options)}]",
    )


@dataclass(frozen=True)
class Results:
    results: list[BenchmarkRow]
    next_cursor: str | None
    sae: str | None
    benchmark: str | None
    words: Callable[[str], str] = words_of


@router.page("/benchmarks", "benchmarks.html")
def results(
    session: SessionDep,
    sae: Annotated[str | None, Query(max_length=200)] = None,
    benchmark: Annotated[str | None, Query(max_length=NAME)] = None,
    cursor: CursorParam = None,
) -> Results:
    page = endpoints.list_all(session, sae, benchmark, limit=DEFAULT_LIMIT, cursor=cursor)
    return Results(page.items, page.next_cursor, sae, benchmark)


@dataclass(frozen=True)
class Metric:
    """A metric of a result: the SAE's own figure, and what stands beside it."""

    name: str
    own: BenchmarkFigure | None
    beside: dict[str, BenchmarkFigure]


@dataclass(frozen=True)
class UnitRow:
    name: str
    family: str
    values: list[float | None]
    """By subject."""


@dataclass(frozen=True)
class OneResult:
    it: BenchmarkView
    metrics: list[Metric]
    subjects: list[str]
    shown: list[BenchmarkMetric]
    """The metric by unit: of the SAE, and of what stands beside it."""
    metric: str
    units: list[UnitRow]
    in_families: bool
    """Whether some family holds more than its one unit of the same name."""
    more: int
    """Units that are not listed."""
    has_run: bool
    exported: bool
    """Whether SAEBench has a benchmark like it."""
    details: str
    words: Callable[[str], str] = words_of


@router.page("/benchmarks/{result}", "benchmark.html")
def result(
    session: SessionDep,
    reference: ResultReference,
    metric: Annotated[str | None, Query(max_length=NAME)] = None,
) -> OneResult:
    it = endpoints.show(session, reference)
    by_name: dict[str, list[BenchmarkMetric]] = {}
    for each in it.metrics:
        by_name.setdefault(each.metric, []).append(each)
    asked = metric if metric in by_name else it.headline
    shown = sorted(by_name.get(asked, []), key=lambda each: each.subject != "sae")
    return OneResult(
        it=it,
        metrics=[
            Metric(
                name,
                next((each for each in found if each.subject == "sae"), None),
                {each.subject: each for each in found if each.subject != "sae"},
            )
            for name, found in by_name.items()
        ],
        subjects=list(dict.fromkeys(e.subject for e in it.metrics if e.subject != "sae")),
        shown=shown,
        metric=asked,
        units=[
            UnitRow(unit.name, unit.family, [_of_unit(each, at) for each in shown])
            for at, unit in enumerate(it.units[:MOST_UNITS])
        ],
        in_families=any(unit.family != unit.name for unit in it.units),
        more=max(0, len(it.units) - MOST_UNITS),
        exported=it.benchmark in KNOWN_TO_SAEBENCH,
        has_run=bool(find_runs(session, [it.run])),
        details=json.dumps(it.details, indent=1, ensure_ascii=False),
    )


def _of_unit(metric: BenchmarkMetric, at: int) -> float | None:
    """Its value of one unit; None where it has none."""
    part = metric.parts[at]
    weight = 1.0 if metric.weights is None else metric.weights[at]
    return None if part is None or not weight else part / weight


def _ends(figures: list[BenchmarkFigure]) -> tuple[float, float]:
    """The scale of shares, or, where a value lies outside of it, that of the values."""
    known = [x for each in figures for x in (each.value, each.low, each.high) if x is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return min(low, 0.0), high
