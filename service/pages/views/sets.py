"""/sets and /sets/{set}: SAEs of one host model in several layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Query

from monosemy.figures import ranges
from monosemy.specs.rest.sets import SetSummary, SetView
from service.edge.context import SessionDep
from service.pages.navigation import Nav
from service.pages.page import PageRouter
from service.pages.sae_figures import Listed, grouped
from service.sets import endpoints
from service.sets.endpoints import SetName

router = PageRouter()


@dataclass(frozen=True)
class Sets:
    sets: list[tuple[SetSummary, str]]
    """(set, its layers in short)"""
    model: str | None


@router.page("/sets", "sets.html", nav=Nav("Sets", 12, below="SAEs"))
def sets(session: SessionDep, model: Annotated[str | None, Query(max_length=400)] = None) -> Sets:
    table = endpoints.list_all(session, model)
    return Sets([(each, ranges(each.layers)) for each in table.items], model)


@dataclass(frozen=True)
class OneSet:
    it: SetView
    layers: str
    groups: dict[str, list[Listed]]
    """By where they read and write, in the order of layers."""


@router.page("/sets/{set}", "set.html")
def one_set(session: SessionDep, set: SetName) -> OneSet:
    view = endpoints.show(session, set)
    return OneSet(view, ranges(view.layers), grouped(view.saes)[view.model.name])
