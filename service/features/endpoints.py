"""GET /saes/{id}/features, a feature's page and its examples"""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from monosemy.specs.rest.features import (
    ExamplePage,
    FeaturePage,
    FeatureSort,
    FeatureSummary,
    SortOrder,
)
from monosemy.specs.rest.page import Page
from monosemy.specs.tags import Tag
from service.edge.context import ContextDep, SessionDep
from service.edge.routing import Router
from service.features.listing import FeatureListing
from service.features.service import example_page, feature_page, page_of_features
from service.keys.authorize import CanRead
from service.kit.errors import InvalidRequest
from service.kit.pagination import DEFAULT_LIMIT, CursorParam, Limit
from service.kit.problems import documented
from service.saes.endpoints import SaeReference
from service.saes.repository import find_sae

router = Router(prefix="/saes/{sae}/features", tags=["features"], dependencies=[CanRead])

Index = Annotated[int, Path(ge=0, lt=2**31, description="Index of the latent in its SAE.")]
Density = Annotated[float | None, Query(ge=0, le=1, description="Share of tokens it fires on.")]


def check_densities(least: float | None, most: float | None) -> None:
    """422 for bounds that no feature can keep."""
    if least is not None and most is not None and least > most:
        raise InvalidRequest([("min_density", f"is larger than max_density ({most})")])


@router.get("", summary="List an SAE's features", responses=documented(404, 422))
def list_all(
    session: SessionDep,
    sae: SaeReference,
    sort: Annotated[FeatureSort, Query(description="Features without a score come last.")] = (
        "index"
    ),
    order: SortOrder = "asc",
    scorer: Annotated[
        str, Query(max_length=100, description="Whose scores to sort by and to show.")
    ] = "detection",
    min_density: Density = None,
    max_density: Density = None,
    has_explanation: Annotated[
        bool | None, Query(description="Only features that have, or have not, an explanation.")
    ] = None,
    q: Annotated[
        str | None,
        Query(min_length=1, max_length=200, description="Words in the label or an explanation."),
    ] = None,
    tag: Annotated[Tag | None, Query(description="Only features with this tag.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[FeatureSummary]:
    """Each with its evidence label, its best explanation and that one's score."""
    check_densities(min_density, max_density)
    row, _ = find_sae(session, sae)
    listing = FeatureListing(
        sae=row.id,
        sort=sort,
        order=order,
        scorer=scorer,
        min_density=min_density,
        max_density=max_density,
        has_explanation=has_explanation,
        text=q,
        tag=tag,
    )
    return page_of_features(session, listing, cursor, limit)


@router.get("/{index}", summary="Show a feature", responses=documented(404, 422))
def show(session: SessionDep, context: ContextDep, sae: SaeReference, index: Index) -> FeaturePage:
    """Everything a feature page needs in one call: statistics, evidence, explanations with scores,
    examples with text and activations, neighbours with their labels, SAE and host model."""
    return feature_page(session, context.tokens, sae, index)


@router.get(
    "/{index}/examples", summary="List a feature's examples", responses=documented(404, 422)
)
def list_examples(
    session: SessionDep,
    context: ContextDep,
    sae: SaeReference,
    index: Index,
    group: Annotated[
        str | None,
        Query(max_length=20, description="`top`, or a quantile: `q0` holds the weakest."),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> ExamplePage:
    """The strongest first, then the quantiles from weakest to strongest."""
    return example_page(session, context.tokens, sae, index, group, cursor, limit)
