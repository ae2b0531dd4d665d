"""/comparisons, and GET /saes/{id}/features/{index}/links"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from fastapi import Path, Query, Response

from monosemy.specs.rest.comparisons import (
    ComparisonView,
    FeatureLinks,
    FeatureMatch,
    MatchSort,
)
from monosemy.specs.rest.features import SortOrder
from monosemy.specs.rest.page import Page
from service.comparisons import repository
from service.comparisons.service import links, matches, view
from service.database.comparison_tables import FeatureLink
from service.edge.context import SessionDep
from service.edge.routing import ApiRouter
from service.features.endpoints import Index
from service.keys.authorize import CallerDep, CanRead, CanRun
from service.keys.ownership import check_owner
from service.kit.pagination import (
    DEFAULT_LIMIT,
    CursorParam,
    Limit,
    Order,
    TimeKey,
    by_time,
    each,
    number_of,
    paged,
)
from service.kit.problems import documented
from service.saes.endpoints import SaeReference
from service.saes.repository import find_sae

router = ApiRouter(tags=["comparisons"])

_index = number_of(2**31)
_BY_LIKENESS: Order[FeatureLink, tuple[float, int, int]] = Order(
    (str, int, int),
    lambda row: (repr(row.value), row.feature_a, row.feature_b),
    lambda value, a, b: (float(value), _index(a), _index(b)),
)

ComparisonReference = Annotated[
    str,
    Path(
        alias="comparison",
        max_length=200,
        description="Id of the comparison (that of its run), or `latest` for the newest.",
    ),
]


@router.get(
    "/comparisons",
    summary="List comparisons",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def list_all(
    session: SessionDep,
    sae: Annotated[
        str | None, Query(max_length=200, description="Only those with this SAE, by id or name.")
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[ComparisonView]:
    """Newest first.  A run of kind `compare` makes one."""
    only = find_sae(session, sae)[0].id if sae is not None else None
    order: Order[repository.Row, TimeKey] = by_time(lambda row: row[0])
    read = partial(repository.list_comparisons, session, only)
    return paged(("comparisons", str(only)), order, cursor, limit, read, each(view))


@router.get(
    "/comparisons/{comparison}",
    summary="Show a comparison",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def show(session: SessionDep, reference: ComparisonReference) -> ComparisonView:
    """How much of each SAE is in the other, beside what chance would give."""
    return view(repository.find_comparison(session, reference))


@router.delete(
    "/comparisons/{comparison}",
    summary="Delete a comparison",
    status_code=204,
    dependencies=[CanRun],
    responses=documented(404, 422),
)
def remove(session: SessionDep, caller: CallerDep, reference: ComparisonReference) -> Response:
    """With all its links; the SAEs stay. Only for the API key whose run made it and for
    administrators."""
    row, _, _ = repository.find_comparison(session, reference, only=True)
    check_owner(caller, row.created_by, "the comparison")
    repository.delete_comparison(session, row.id)
    return Response(status_code=204)


def natural_order(sort: MatchSort) -> SortOrder:
    """The one that is taken where none is asked for."""
    return "desc" if sort == "value" else "asc"


@router.get(
    "/comparisons/{comparison}/matches",
    summary="List matched features",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def list_matches(
    session: SessionDep,
    reference: ComparisonReference,
    matched: Annotated[
        bool | None, Query(description="Only partners, or only those that are not.")
    ] = True,
    min_value: Annotated[
        float | None, Query(ge=-1, le=1, description="Only those that are at least so alike.")
    ] = None,
    sort: Annotated[
        MatchSort, Query(description="By likeness, or by the features of one side.")
    ] = "value",
    order: Annotated[
        SortOrder | None,
        Query(description="By default the most alike first, features from the first on."),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[FeatureMatch]:
    """`matched=false` lists near features that are no partners."""
    row, a, b = repository.find_comparison(session, reference)
    backwards = order not in (None, natural_order(sort))
    # Cursors from before there were orders still hold.
    ordered = () if sort == "value" and not backwards else (sort, backwards)
    return paged(
        ("matches", str(row.id), matched, min_value, *ordered),
        _BY_LIKENESS,
        cursor,
        limit,
        partial(repository.list_matches, session, row.id, matched, min_value, sort, backwards),
        partial(matches, session, a, b),
    )


@router.get(
    "/saes/{sae}/features/{index}/links",
    summary="List features that have to do with one",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def list_links(
    session: SessionDep,
    sae: SaeReference,
    index: Index,
    kind: Annotated[
        Literal["decoder", "coactivation", "tokens", "explanations"] | None,
        Query(description="Only links of this kind."),
    ] = None,
) -> FeatureLinks:
    """Neighbours in its own SAE by decoder and by the tokens they fire on; then its partners and
    nearest features in the SAEs that its own was compared with."""
    return FeatureLinks(items=links(session, sae, index, kind))
