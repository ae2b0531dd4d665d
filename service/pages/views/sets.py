"""/sets and /sets/{set}: SAEs of one host model in several layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Form, Query, Request, Response
from pydantic import ValidationError
from sqlalchemy.orm import Session

from monosemy.figures import ranges
from monosemy.specs.messages import message_of
from monosemy.specs.rest.graphs import GraphHeader
from monosemy.specs.rest.saes import SaeSummary
from monosemy.specs.rest.sets import NewSet, SetSummary, SetView
from service.edge.context import ContextDep, SessionDep
from service.graphs.endpoints import list_all as list_graphs
from service.keys.authorize import CallerDep, CanRun
from service.kit.errors import Conflict, InvalidRequest
from service.pages.navigation import Nav
from service.pages.page import PageRouter, go_to, shown
from service.pages.sae_figures import Listed, grouped
from service.pages.set_figures import SetFigures, set_figures
from service.saes.endpoints import list_all as list_saes
from service.sets import endpoints
from service.sets.endpoints import SetName

router = PageRouter()

_OFFERED = 200
"""The newest; others are put together at the command line."""
_GRAPHS = 50
TEMPLATE = "sets.html"


@dataclass(frozen=True)
class Sets:
    sets: list[tuple[SetSummary, str]]
    """(set, its layers in short)"""
    model: str | None
    offered: list[SaeSummary]
    """Of one place that is read and one that is written, and of no set."""
    name: str = ""
    chosen: Sequence[str] = ()
    """Ids of SAEs that the form was sent with."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """By the form's field; empty for what is of none."""


@router.page("/sets", TEMPLATE, nav=Nav("Sets", 12, below="SAEs"))
def sets(session: SessionDep, model: Annotated[str | None, Query(max_length=400)] = None) -> Sets:
    return _sets(session, model)


def _sets(
    session: Session,
    model: str | None,
    name: str = "",
    chosen: Sequence[str] = (),
    errors: Mapping[str, str] | None = None,
) -> Sets:
    table = endpoints.list_all(session, model)
    saes = list_saes(session, model, limit=_OFFERED).items
    offered = [
        each
        for each in saes
        if each.set is None and len(each.hooks.reads) == len(each.hooks.writes) == 1
    ]
    listed = [(each, ranges(each.layers)) for each in table.items]
    return Sets(listed, model, offered, name, chosen, errors or {})


@router.page("/sets/new", TEMPLATE, method="POST", needs=CanRun)
def make(
    request: Request,
    session: SessionDep,
    context: ContextDep,
    caller: CallerDep,
    name: Annotated[str, Form()] = "",
    saes: Annotated[list[str], Form()] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    try:
        body = NewSet(name=name.strip(), saes=saes)
        made = endpoints.make(session, caller, context, Response(), body)
    except ValidationError as error:
        faults = error.errors()
        problems = [(".".join(map(str, each["loc"])), message_of(each)) for each in faults]
    except InvalidRequest as error:
        problems = error.problems
    except Conflict as error:
        problems = getattr(error, "problems", None) or [("saes", str(error))]
    else:
        return go_to(request, f"/sets/{made.name}")
    errors = {path.partition(".")[0]: message for path, message in problems}
    view = _sets(session, None, name, saes, errors)
    return shown(request, TEMPLATE, view, status=422)


@dataclass(frozen=True)
class OneSet:
    it: SetView
    layers: str
    groups: dict[str, list[Listed]]
    """By where they read and write, in the order of layers."""
    figures: SetFigures | None
    """None where nobody measured it."""
    graphs: list[GraphHeader]
    """The newest that were traced through it."""


@router.page("/sets/{set}", "set.html")
def one_set(session: SessionDep, set: SetName) -> OneSet:
    view = endpoints.show(session, set)
    groups = grouped(view.saes)[view.model.name]
    graphs = list_graphs(session, in_set=set, limit=_GRAPHS).items
    return OneSet(view, ranges(view.layers), groups, set_figures(view), graphs)


@dataclass(frozen=True)
class Deletion:
    it: SetView


@router.page("/sets/{set}/delete", "set_delete.html")
def ask(session: SessionDep, set: SetName) -> Deletion:
    return Deletion(endpoints.show(session, set))


@router.page("/sets/{set}/delete", "set_delete.html", method="POST", needs=CanRun)
def delete(request: Request, session: SessionDep, caller: CallerDep, set: SetName) -> Response:
    endpoints.remove(session, caller, set)
    return go_to(request, "/sets")
