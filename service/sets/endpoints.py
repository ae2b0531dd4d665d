"""/sets"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import Path, Query, Response

from monosemy.specs.rest.sets import NewSet, SetTable, SetView
from service.edge.context import ContextDep, SessionDep
from service.edge.routing import ApiRouter
from service.keys.authorize import CallerDep, CanRead, CanRun
from service.kit.problems import documented
from service.models.repository import find_model
from service.sets.making import delete_set, make_set
from service.sets.service import table, view

router = ApiRouter(prefix="/sets", tags=["saes"])

SetName = Annotated[str, Path(max_length=200, description="Name of the set.")]


@router.get("", summary="List sets of SAEs", dependencies=[CanRead], responses=documented(404, 422))
def list_all(
    session: SessionDep,
    model: Annotated[str | None, Query(max_length=400, description="Host model's name.")] = None,
) -> SetTable:
    """Newest first. A sweep over layers makes one for each of its SAEs, rates and seeds. 404 for a
    host model that is not here."""
    if model is not None:
        find_model(session, model)
    return table(session, model)


@router.post(
    "",
    status_code=201,
    summary="Make a set of SAEs",
    dependencies=[CanRun],
    responses=documented(403, 409, 422),
)
def make(
    session: SessionDep, caller: CallerDep, context: ContextDep, response: Response, body: NewSet
) -> SetView:
    """Of stored SAEs of one host model, by what they read. 409 where the name is taken or one is of
    another set."""
    made = make_set(session, body, caller)
    where = f"{context.settings.path_prefix}/api/v1/sets/{quote(made.name, safe='')}"
    response.headers["Location"] = where
    return made


@router.get(
    "/{set}", summary="Show a set of SAEs", dependencies=[CanRead], responses=documented(404, 422)
)
def show(session: SessionDep, set: SetName) -> SetView:
    """Its SAEs, by layer, and what the newest run that measured just these together found."""
    return view(session, set)


@router.delete(
    "/{set}",
    status_code=204,
    summary="Delete a set of SAEs",
    dependencies=[CanRun],
    responses=documented(403, 404, 409, 422),
)
def remove(session: SessionDep, caller: CallerDep, set: SetName) -> None:
    """Its SAEs stay, of no set then, and graphs that were traced through it. Not while a run works
    on it (409)."""
    delete_set(session, set, caller)
