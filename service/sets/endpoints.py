"""/sets"""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from monosemy.specs.rest.sets import SetTable, SetView
from service.edge.context import SessionDep
from service.edge.routing import ApiRouter
from service.keys.authorize import CanRead
from service.kit.problems import documented
from service.models.repository import find_model
from service.sets.service import table, view

router = ApiRouter(prefix="/sets", tags=["saes"], dependencies=[CanRead])

SetName = Annotated[str, Path(max_length=200, description="Name of the set.")]


@router.get("", summary="List sets of SAEs", responses=documented(404, 422))
def list_all(
    session: SessionDep,
    model: Annotated[str | None, Query(max_length=400, description="Host model's name.")] = None,
) -> SetTable:
    """Newest first. A sweep over layers makes one for each of its SAEs, rates and seeds. 404 for a
    host model that is not here."""
    if model is not None:
        find_model(session, model)
    return table(session, model)


@router.get("/{set}", summary="Show a set of SAEs", responses=documented(404, 422))
def show(session: SessionDep, set: SetName) -> SetView:
    """Its SAEs, by layer."""
    return view(session, set)
