"""/concepts"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import Path, Query, Response

from monosemy.specs.rest.concepts import ConceptRow, ConceptView
from monosemy.specs.rest.page import Page
from service.concepts import repository
from service.concepts.service import rows, view
from service.database.concept_tables import Concept
from service.edge.context import SessionDep
from service.edge.routing import ApiRouter
from service.keys.authorize import CallerDep, CanRead, CanRun
from service.keys.ownership import check_owner
from service.kit.pagination import (
    DEFAULT_LIMIT,
    CursorParam,
    Limit,
    Order,
    TimeKey,
    by_time,
    paged,
)
from service.kit.problems import documented
from service.saes.repository import find_sae

router = ApiRouter(prefix="/concepts", tags=["concepts"])

ConceptReference = Annotated[
    str,
    Path(alias="concept", max_length=200, description="Id or name of the concept, or `latest`."),
]


@router.get("", summary="List concepts", dependencies=[CanRead], responses=documented(404, 422))
def list_all(
    session: SessionDep,
    sae: Annotated[
        str | None, Query(max_length=200, description="Only those of this SAE, by id or name.")
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[ConceptRow]:
    """Newest first, in short. A run of kind `concept` makes one."""
    only = find_sae(session, sae)[0].id if sae is not None else None
    order: Order[Concept, TimeKey] = by_time(lambda row: row)
    read = partial(repository.list_concepts, session, only)
    return paged(("concepts", str(only)), order, cursor, limit, read, partial(rows, session))


@router.get(
    "/{concept}", summary="Show a concept", dependencies=[CanRead], responses=documented(404, 422)
)
def show(session: SessionDep, reference: ConceptReference) -> ConceptView:
    """Its features and threshold, and how well texts that chose nothing are told by them, beside
    other ways to tell and to erase."""
    return view(session, reference)


@router.delete(
    "/{concept}",
    summary="Delete a concept",
    status_code=204,
    dependencies=[CanRun],
    responses=documented(404, 422),
)
def remove(session: SessionDep, caller: CallerDep, reference: ConceptReference) -> Response:
    """Its run stays. Only for the API key whose run made it and for administrators."""
    row = repository.find_concept(session, reference, only=True)
    check_owner(caller, row.created_by, f"the concept '{row.name}'")
    repository.delete_concept(session, row.id)
    return Response(status_code=204)
