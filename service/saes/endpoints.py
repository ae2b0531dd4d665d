"""GET /saes, GET and DELETE /saes/{id}, and how its features are distributed"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import Path, Query

from monosemy.specs.rest.page import Page
from monosemy.specs.rest.saes import Distribution, SaeDetail, SaeSummary
from service.crosscoders.repository import class_counts
from service.crosscoders.service import is_crosscoder
from service.database.tables import Model, Sae
from service.edge.context import ContextDep, SessionDep
from service.edge.routing import ApiRouter
from service.keys.authorize import CanAdminister, CanRead
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
from service.models.sites import check_filter
from service.saes.counts import count_features
from service.saes.deletion import delete_sae
from service.saes.distribution import distribution
from service.saes.files import missing_files
from service.saes.repository import find_sae, list_saes
from service.saes.views import sae_detail, sae_summary

router = ApiRouter(prefix="/saes", tags=["saes"], dependencies=[CanRead])

SaeReference = Annotated[
    str, Path(max_length=200, description="Id or unique name of the SAE.", examples=["demo"])
]


@router.get("", summary="List SAEs", responses=documented(404, 422))
def list_all(
    session: SessionDep,
    model: Annotated[str | None, Query(max_length=400, description="Host model's name.")] = None,
    site: Annotated[str | None, Query(max_length=200, description="Hooked site.")] = None,
    counts: Annotated[
        bool, Query(description="With how many features are indexed, explained and scored.")
    ] = False,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[SaeSummary]:
    """Newest first. 404 for a host model that is not here, 422 for a site that it does not have."""
    order: Order[tuple[Sae, Model], TimeKey] = by_time(lambda row: row[0])

    def show(rows: Sequence[tuple[Sae, Model]]) -> list[SaeSummary]:
        known = count_features(session, [sae for sae, _ in rows]) if counts else {}
        return [sae_summary(sae, host, known.get(sae.id)) for sae, host in rows]

    read = partial(list_saes, session, model, site)
    page = paged(("saes", model, site), order, cursor, limit, read, show)
    if not page.items:
        check_filter(session, model, site)
    return page


@router.get("/{sae}", summary="Show an SAE", responses=documented(404, 422))
def show(session: SessionDep, context: ContextDep, sae: SaeReference) -> SaeDetail:
    """Configuration, metrics, provenance, and how many features are indexed, explained, scored."""
    row, host = find_sae(session, sae)
    missing = missing_files(context.settings.artifacts, row.path, row.index)
    detail = sae_detail(row, host, count_features(session, [row])[row.id], missing)
    if is_crosscoder(row.architecture):
        detail.latent_classes = class_counts(session, row)
    return detail


@router.get(
    "/{sae}/distribution",
    summary="Show how often an SAE's features fire",
    responses=documented(404, 409, 422),
)
def show_distribution(session: SessionDep, sae: SaeReference) -> Distribution:
    """Histograms of how often the features of its index fire and of how strongly at most. The
    filters of its features take the borders as they are. 409 where it is not indexed."""
    return distribution(session, find_sae(session, sae)[0])


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
