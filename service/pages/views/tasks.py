"""/tasks and /tasks/{id}: what SAEs are worth at a task, beside a dictionary of what is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Query

from monosemy.circuits.supervised.words import TASKS, sentences
from monosemy.specs.rest.tasks import (
    Control,
    ControlFloor,
    Interpretation,
    MethodResult,
    Section,
    TaskRow,
    TaskView,
)
from service.edge.context import SessionDep
from service.kit.pagination import DEFAULT_LIMIT, CursorParam
from service.pages.navigation import Nav
from service.pages.page import PageRouter
from service.runs.queries import find_runs
from service.tasks import endpoints
from service.tasks.endpoints import TaskReference

router = PageRouter()


@dataclass(frozen=True)
class Tasks:
    tasks: list[TaskRow]
    next_cursor: str | None
    sae: str | None
    titles: dict[str, str]


@router.page("/tasks", "tasks.html", nav=Nav("Tasks", 44, below="Circuits"))
def tasks(
    session: SessionDep,
    sae: Annotated[str | None, Query(max_length=200)] = None,
    cursor: CursorParam = None,
) -> Tasks:
    page = endpoints.list_all(session, sae, DEFAULT_LIMIT, cursor)
    return Tasks(page.items, page.next_cursor, sae, TASKS)


@dataclass(frozen=True)
class Edits:
    """Edits of one attribute, dictionaries beside each other."""

    floor: ControlFloor
    counts: list[int]
    """Numbers of features that edits may change."""
    rows: list[tuple[MethodResult, list[Control | None]]]
    """One cell for each count; of a supervised dictionary one alone."""


@dataclass(frozen=True)
class ShownSection:
    section: Section
    edits: list[Edits]


@dataclass(frozen=True)
class Node:
    """What is found at one token of one site."""

    site: str
    position: str
    found: list[Interpretation]


@dataclass(frozen=True)
class OneTask:
    it: TaskView
    title: str
    has_run: bool
    """Whether the run that made it is still there."""
    sections: list[ShownSection]
    nodes: list[Node]
    says: list[str]
    """What SAEs lack, or have in pieces."""
    kinds: dict[str, str]
    """By dictionary."""
    owners: dict[str, str]
    """Of the SAEs that are still there: name by dictionary."""


@router.page("/tasks/{task}", "task.html")
def task(session: SessionDep, reference: TaskReference) -> OneTask:
    it = endpoints.show(session, reference)
    methods = [each for section in it.sections for each in section.methods]
    places = list(dict.fromkeys((each.site, each.position) for each in it.interpretations))
    return OneTask(
        it=it,
        title=TASKS.get(it.task, it.task),
        has_run=bool(find_runs(session, [it.id])),
        sections=[ShownSection(each, _edits(each)) for each in it.sections],
        nodes=[
            Node(
                site,
                position,
                [e for e in it.interpretations if (e.site, e.position) == (site, position)],
            )
            for site, position in places
        ],
        says=sentences(it),
        kinds={each.name: each.kind for each in methods},
        owners={
            each.name: each.name for each in methods if each.kind == "sae" and each.name in it.saes
        },
    )


def _edits(section: Section) -> list[Edits]:
    shown = []
    for floor in section.floors:
        counts = sorted(
            {
                control.features
                for method in section.methods
                if method.kind != "supervised"
                for control in method.control
                if control.attribute == floor.attribute
            }
        )
        rows = []
        for method in section.methods:
            of = {c.features: c for c in method.control if c.attribute == floor.attribute}
            cells = list(of.values()) if method.kind == "supervised" else list(map(of.get, counts))
            rows.append((method, cells))
        shown.append(Edits(floor, counts, rows))  # type: ignore[arg-type]
    return shown
