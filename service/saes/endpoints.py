"""GET /saes, GET and DELETE /saes/{id}"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import Path, Query

from monosemy.specs.rest.page import Page
from monosemy.specs.rest.saes import FeatureCounts, SaeDetail, SaeSummary
from service.database.tables import Model, Sae
from service.edge.context import SessionDep
from service.edge.routing import Router
from service.keys.authorize import CanAdminister, CanRead
from service.kit.pagination import (
    DEFAULT_LIMIT,
    CursorParam,
    Limit,
    Order,
    TimeKey,
    by_time,
    each,
    paged,
)
from service.kit.problems import documented
from service.saes.deletion import delete_sae
from service.saes.repository import count_features, find_sae, list_saes
from service.saes.views import sae_detail, sae_summary

router = Router(prefix="/saes", tags=["saes"], dependencies=[CanRead])

SaeReference = Annotated[
    str, Path(max_length=200, description="Id or unique name of the SAE.", examples=["demo"])
]


@router.get("", summary="List SAEs", responses=documented(422))
def list_all(
    session: SessionDep,
    model: Annotated[str | None, Query(max_length=400, description="Host model's name.")] = None,
    site: Annotated[str | None, Query(max_length=200, description="Hooked site.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[SaeSummary]:
    """Newest first."""
    order: Order[tuple[Sae, Model], TimeKey] = by_time(lambda row: row[0])
    return paged(
        ("saes", model, site),
        order,
        cursor,
        limit,
        partial(list_saes, session, model, site),
        each(lambda row: sae_summary(*row)),
    )


@router.get("/{sae}", summary="Show an SAE", responses=documented(404, 422))
def show(session: SessionDep, sae: SaeReference) -> SaeDetail:
    """Configuration, metrics, provenance, and how many features are indexed, explained, scored."""
    row, host = find_sae(session, sae)
    indexed, explained, scored = count_features(session, row.id)
    counts = FeatureCounts(indexed=indexed, explained=explained, scored=scored)
    return sae_detail(row, host, counts)


@router.delete(
    "/{sae}",
    status_code=204,
    summary="Delete an SAE",
    dependencies=[CanAdminister],
    responses=documented(404, 409, 422),
)
def remove(session: SessionDep, sae: SaeReference) -> None:
    """With its features, their explanations, scores and tags, and their places in lists. Its files
    stay until `monosemy gc` collects them. Not while a run works on it (409)."""
    delete_sae(session, sae)
