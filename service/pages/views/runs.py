"""/runs, /runs/{id} and its log: what was done, goes on and waits."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Query

from monosemy.specs import KINDS
from monosemy.specs.graphs import MOST_PROMPTS
from monosemy.specs.rest.benchmarks import BenchmarkRow
from monosemy.specs.rest.graphs import GraphHeader
from monosemy.specs.rest.runs import (
    KnownKind,
    RunEventMessage,
    RunFamily,
    RunState,
    RunSummary,
    RunWaiting,
)
from monosemy.specs.rest.spend import SpendTable
from monosemy.specs.rest.training import SaeReadings, TrainingReadings
from monosemy.specs.run_states import ACTIVE, ENDED, RETRYABLE
from service.benchmarks import endpoints as benchmarks
from service.edge.context import SessionDep
from service.graphs import endpoints as graphs
from service.kit.pagination import CursorParam
from service.pages import run_words
from service.pages.navigation import Nav
from service.pages.page import PageRouter
from service.runs import endpoints as rest
from service.runs.queries import settled_event
from service.runs.training import training_of
from service.runs.waiting import show_log, show_waiting
from service.spend import endpoints as spend

router = PageRouter()

STATES: tuple[RunState, ...] = (
    "queued",
    "running",
    "cancelling",
    "succeeded",
    "failed",
    "cancelled",
)
LOG_LINES = 60
MOST_RESULTS = 200
"""Of benchmarks that are listed."""
POINTS = 300
"""Readings that a curve is drawn of."""


@dataclass(frozen=True)
class Runs:
    runs: list[RunSummary]
    next_cursor: str | None
    state: str | None
    kind: str | None
    states: tuple[str, ...] = STATES
    kinds: list[str] = field(default_factory=lambda: list(KINDS))
    words: object = run_words


@router.page("/runs", "runs.html", nav=Nav("Runs", 50, "r"))
def runs(
    session: SessionDep,
    state: RunState | None = None,
    kind: KnownKind | None = None,
    cursor: CursorParam = None,
) -> Runs:
    """Steps of pipelines only where a kind is asked for."""
    parent: Any = None if kind else "none"
    page = rest.list_all(session, state, kind, parent, cursor=cursor)
    return Runs(page.items, page.next_cursor, state, kind)


@dataclass(frozen=True)
class OneRun:
    run: RunFamily
    waiting: RunWaiting | None
    log: list[RunEventMessage]
    """The oldest first."""
    log_cursor: str | None
    training: TrainingReadings | None
    sae: SaeReadings | None
    """That whose curves are drawn."""
    curves: list[Curve]
    cost: SpendTable
    budget: float | None
    given: str
    whole: str
    made: list[tuple[str, str]]
    """(id, name) of the SAEs that it made."""
    graphs: list[GraphHeader]
    """That it has made so far, in the order of its prompts."""
    measured: list[BenchmarkRow]
    """Results of benchmarks that it has measured so far."""
    warnings: list[tuple[str, str]]
    """What is to be known before what a step made is relied on, with the step."""
    live: dict[str, Any]
    words: object = run_words
    ended: frozenset[str] = ENDED
    retryable: frozenset[str] = RETRYABLE


@dataclass(frozen=True)
class Curve:
    title: str
    name: str
    floor: float | None
    """Where its axis begins; None: where the data does."""
    series: list[tuple[str, str, list[tuple[float, float]]]]


@router.page("/runs/{run_id}", "run.html", script="pages/run.js")
def run(
    session: SessionDep,
    run_id: uuid.UUID,
    place: Annotated[int | None, Query(ge=0, lt=2**15)] = None,
) -> OneRun:
    family = rest.show_run(session, run_id)
    # Before all that is shown: what comes meanwhile is told twice rather than never.
    settled = settled_event(session, run_id)
    log = show_log(session, run_id, limit=LOG_LINES)
    steps = [family, *family.children]
    training = _training(session, family, place)
    sae = training.saes[0] if training and training.saes else None
    queued = any(each.state == "queued" for each in steps)
    return OneRun(
        run=family,
        waiting=show_waiting(session, run_id) if queued else None,
        log=list(reversed(log.items)),
        log_cursor=log.next_cursor,
        training=training,
        sae=sae,
        curves=_curves(sae) if sae else [],
        cost=spend.show(session, by="purpose", run=run_id),
        budget=run_words.budget(family.children or [family]),
        given=run_words.spec_text(family.spec),
        whole=run_words.spec_text(family.spec, whole=True),
        made=_made(family),
        graphs=_graphs(session, run_id),
        measured=benchmarks.list_all(session, run=run_id, limit=MOST_RESULTS).items,
        warnings=[(run_words.step(each), words) for each in steps for words in each.warnings],
        live={
            "run": str(run_id),
            "after": settled,
            "seen": [event.id for event in log.items if event.id > settled],
            "going": family.state in ACTIVE,
            "steps": {str(each.id): run_words.step(each) for each in steps},
            "place": sae.place if sae else None,
            "training": training is not None,
        },
    )


def _training(session: SessionDep, family: RunFamily, place: int | None) -> TrainingReadings | None:
    """None for a run that trains nothing."""
    found = training_of(session, family.id, POINTS)
    if not found.saes:
        return None
    if place is not None:
        found.saes = [each for each in found.saes if each.place == place] or found.saes
    return found


_CURVES = (
    ("FVU, share of variance unexplained", "fvu"),
    ("L0, active latents per token", "l0"),
    ("Dead latents, %", "dead_share"),
)


def _curves(sae: SaeReadings) -> list[Curve]:
    """Those for which there are readings; the frozen-decoder baseline beside the SAE."""
    curves = []
    for title, name in _CURVES:
        own, twin = [], []
        unit = 100.0 if name == "dead_share" else 1.0
        for reading in sae.readings:
            value = getattr(reading, name)
            if value is not None:
                own.append((float(reading.tokens), unit * float(value)))
            baseline = reading.frozen_decoder_baseline
            other = getattr(baseline, name) if baseline is not None else None
            if other is not None:
                twin.append((float(reading.tokens), unit * float(other)))
        if own:
            series = [("own", "SAE", own)]
            series += [("null", "frozen random decoder", twin)] * bool(twin)
            curves.append(Curve(title, name, None if name == "fvu" else 0.0, series))
    return curves


def _made(family: RunFamily) -> list[tuple[str, str]]:
    """SAEs that a training or an import ended with; what only works on one made none."""
    found: dict[str, str] = {}
    for each in (family, *family.children):
        result = each.result or {}
        for made in [result, *_list(result.get("saes"))]:
            if isinstance(made, dict) and isinstance(made.get("sae_id"), str) and "name" in made:
                found.setdefault(made["sae_id"], str(made["name"]))
    return list(found.items())


def _graphs(session: SessionDep, run: uuid.UUID) -> list[GraphHeader]:
    items = graphs.list_all(session, run=run, limit=MOST_PROMPTS).items
    return sorted(items, key=lambda each: each.place)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


@dataclass(frozen=True)
class Log:
    run: RunFamily
    log: list[RunEventMessage]
    next_cursor: str | None
    steps: dict[str, str]
    words: object = run_words


@router.page("/runs/{run_id}/log", "run_log.html")
def log(session: SessionDep, run_id: uuid.UUID, cursor: CursorParam = None) -> Log:
    family = rest.show_run(session, run_id)
    page = show_log(session, run_id, 200, cursor)
    steps = {str(each.id): run_words.step(each) for each in (family, *family.children)}
    return Log(family, page.items, page.next_cursor, steps)
