"""GET /saes/{id}/features, a feature's page and its examples"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import Path, Query

from monosemy.specs.rest.features import (
    ExamplePage,
    FeaturePage,
    FeaturesAround,
    FeatureSummary,
)
from monosemy.specs.rest.page import Page
from service.edge.context import ContextDep, SessionDep
from service.edge.routing import ApiRouter
from service.features.around import features_around
from service.features.filters import FilterDep, check_indices
from service.features.service import (
    example_page,
    feature_page,
    no_such_feature,
    page_of_features,
)
from service.keys.authorize import CallerDep, CanRead
from service.kit.pagination import DEFAULT_LIMIT, CursorParam, Limit
from service.kit.problems import documented
from service.saes.endpoints import SaeReference
from service.saes.repository import find_sae

router = ApiRouter(prefix="/saes/{sae}/features", tags=["features"], dependencies=[CanRead])

Index = Annotated[int, Path(ge=0, lt=2**31, description="Index of the latent in its SAE.")]
Listed = Annotated[
    str | None,
    Query(alias="list", max_length=200, description="In this list, by id or name, instead."),
]
Width = Annotated[
    int | None,
    Query(
        alias="context",
        ge=0,
        le=100_000,
        description="Tokens of its row on either side of the one that an example is about, where "
        "its window has fewer; what the feature does on those is not stored.",
    ),
]


@router.get("", summary="List an SAE's features", responses=documented(404, 409, 422))
def list_all(
    session: SessionDep,
    sae: SaeReference,
    wanted: FilterDep,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
    index: Annotated[
        list[Annotated[int, Query(ge=0, lt=2**31)]] | None,
        Query(max_length=200, description="Only these features; repeatable."),
    ] = None,
) -> Page[FeatureSummary]:
    """Each with its evidence label, its best explanation and that one's score. 409 for `head` and
    `family` where the heads have not been surveyed, for `latent_class` and `genuine` where the SAE
    is no crosscoder."""
    row, _ = find_sae(session, sae)
    indices = None if index is None else tuple(index)
    check_indices(row, index or (), "index")
    listing = replace(wanted, indices=indices).of(session, row.id, cursor)
    return page_of_features(session, listing, cursor, limit)


@router.get("/{index}", summary="Show a feature", responses=documented(404, 422))
def show(
    session: SessionDep,
    context: ContextDep,
    caller: CallerDep,
    sae: SaeReference,
    index: Index,
    width: Width = None,
) -> FeaturePage:
    """Everything a feature page needs in one call: statistics, evidence, explanations with scores,
    examples with text and activations, neighbours with their labels, SAE and host model."""
    return feature_page(session, context.tokens, sae, index, caller.name, width)


@router.get(
    "/{index}/around",
    summary="Find the features before and after",
    responses=documented(404, 409, 422),
)
def around(
    session: SessionDep,
    sae: SaeReference,
    index: Index,
    wanted: FilterDep,
    listed: Listed = None,
) -> FeaturesAround:
    """Its neighbours in the listing that has this order and these filters, whether or not it is in
    there itself."""
    row, _ = find_sae(session, sae)
    if index >= row.d_sae:
        raise no_such_feature(row, index)
    return features_around(session, row, index, wanted, listed)


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
    width: Width = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> ExamplePage:
    """The strongest first, then the quantiles from weakest to strongest."""
    return example_page(session, context.tokens, sae, index, group, cursor, limit, width)
