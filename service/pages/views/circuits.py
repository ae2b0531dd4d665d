"""/circuits and /circuits/{id}: heads of a host model that do a task."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Query
from markupsafe import Markup

from monosemy.circuit_plots import GridHead, Reading, head_grid, interval_curves
from monosemy.figures import fixed
from monosemy.specs.rest.circuits import (
    CausalCheck,
    CausalPoint,
    CircuitHeader,
    CircuitView,
    EdgeScore,
    HeadScore,
)
from service.circuits import endpoints
from service.circuits.endpoints import CircuitReference
from service.edge.context import SessionDep
from service.kit.errors import InvalidRequest
from service.kit.pagination import DEFAULT_LIMIT, CursorParam
from service.pages.navigation import Nav
from service.pages.page import PageRouter
from service.runs.queries import find_runs

router = PageRouter()

_ROWS = 20
_DRAWN = 60
"""Edges that are drawn at a time."""
_HEAD = re.compile(r"(\d{1,6})\.(\d{1,6})")

EdgeView = Literal["none", "found", "highest"]


@dataclass(frozen=True)
class Circuits:
    circuits: list[CircuitHeader]
    next_cursor: str | None
    model: str | None


@router.page("/circuits", "circuits.html", nav=Nav("Circuits", 42))
def circuits(
    session: SessionDep,
    model: Annotated[str | None, Query(max_length=1000)] = None,
    cursor: CursorParam = None,
) -> Circuits:
    page = endpoints.list_all(session, model, None, DEFAULT_LIMIT, cursor)
    return Circuits(page.items, page.next_cursor, model)


@dataclass(frozen=True)
class CausalDrawing:
    """The two curves of the check by ablation."""

    check: CausalCheck
    kept: Markup
    removed: Markup
    rows: list[tuple[CausalPoint, CausalPoint]]
    """(kept, removed) by number of heads."""


@dataclass(frozen=True)
class OneCircuit:
    it: CircuitView
    has_run: bool
    """Whether the run that found it is still there."""
    grid: Markup
    ranked: list[HeadScore]
    """The highest z first."""
    head: HeadScore | None
    """That was chosen."""
    edges: EdgeView
    drawn: list[EdgeScore]
    causal: CausalDrawing | None
    chance: float | None
    """Average precision by chance."""


@router.page("/circuits/{circuit}", "circuit.html")
def circuit(
    session: SessionDep,
    reference: CircuitReference,
    head: Annotated[
        str | None, Query(max_length=20, description="LAYER.HEAD whose edges are drawn.")
    ] = None,
    edges: Annotated[EdgeView, Query(description="Edges that are drawn of all heads.")] = "none",
) -> OneCircuit:
    view = endpoints.show(session, reference)
    chosen = None if head is None else _chosen(view, head)
    drawn = _drawn(view, chosen, edges)
    known = view.known
    return OneCircuit(
        it=view,
        has_run=bool(find_runs(session, [view.id])),
        grid=_grid(view, chosen, drawn),
        ranked=sorted(view.heads, key=lambda each: -each.z)[:_ROWS],
        head=chosen,
        edges=edges,
        drawn=drawn,
        causal=None if view.causal is None else _causal(view.causal),
        chance=None if known is None else known.members / known.heads,
    )


def _chosen(view: CircuitView, head: str) -> HeadScore:
    """422 for a head that the host model does not have."""
    match = _HEAD.fullmatch(head)
    place = None if match is None else (int(match[1]), int(match[2]))
    for each in view.heads:
        if (each.layer, each.head) == place:
            return each
    layers = f"layers {view.layers[0]} to {view.layers[-1]}, heads 0 to {view.heads_per_layer - 1}"
    raise InvalidRequest([("head", f"write LAYER.HEAD; there are {layers}")])


def _drawn(view: CircuitView, head: HeadScore | None, edges: EdgeView) -> list[EdgeScore]:
    if head is not None:
        place = (head.layer, head.head)
        own = [each for each in view.edge_list if place in (each.source, each.target)]
        return own[:_DRAWN]
    if edges == "none":
        return []
    return [each for each in view.edge_list if edges == "highest" or each.found][:_DRAWN]


def _grid(view: CircuitView, head: HeadScore | None, drawn: Sequence[EdgeScore]) -> Markup:
    heads = [
        GridHead(each.layer, each.head, each.z, each.found, bool(each.known)) for each in view.heads
    ]
    links = {(each.layer, each.head): f"?head={each.layer}.{each.head}" for each in view.heads}
    return Markup(
        head_grid(
            heads,
            [((each.source, each.target), each.z) for each in drawn],
            None if head is None else (head.layer, head.head),
            links if view.edge_list else None,
        )
    )


def _causal(check: CausalCheck) -> CausalDrawing:
    rules = [("all heads", check.clean.value), ("no heads", check.none.value)]
    return CausalDrawing(
        check=check,
        kept=_curve(check.kept, rules, "Logit difference with only some heads kept"),
        removed=_curve(check.removed, rules, "Logit difference with some heads removed"),
        rows=list(zip(check.kept, check.removed, strict=True)),
    )


def _curve(points: Sequence[CausalPoint], rules: list[tuple[str, float]], says: str) -> Markup:
    sides = {"own": "the highest z", "null": "random sets"}
    series = [
        (
            css,
            name,
            [
                Reading(each.heads, figure.value, figure.low, figure.high)
                for each in points
                for figure in [each.top if css == "own" else each.random]
            ],
        )
        for css, name in sides.items()
    ]
    told = "; ".join(
        f"{each.heads} heads: {fixed(each.top.value)}, random {fixed(each.random.value)}"
        for each in points
    )
    return Markup(interval_curves(series, rules, f"{says}. {told}", unit="heads"))
