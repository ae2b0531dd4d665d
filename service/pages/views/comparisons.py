"""/comparisons and /comparisons/{id}: features of two SAEs that belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Query
from sqlalchemy.orm import Session

from monosemy.specs.rest.comparisons import FeatureMatch, MatchSort, SideView
from monosemy.specs.rest.features import SortOrder
from service.comparisons import endpoints
from service.comparisons.endpoints import ComparisonReference
from service.edge.context import AppContext, ContextDep, SessionDep
from service.features.repository import find_feature
from service.features.service import page_of
from service.keys.authorize import CallerDep
from service.kit.errors import InvalidRequest
from service.kit.pagination import DEFAULT_LIMIT, CursorParam
from service.pages.comparison_figures import ComparisonFigures, figures_of
from service.pages.feature.examples import Drawing
from service.pages.feature.shown import FeatureShown, shown_feature
from service.pages.navigation import Nav
from service.pages.page import PageRouter
from service.runs.queries import find_runs

router = PageRouter()

_PAIRS = 25
_EXAMPLES = 8
Shown = Annotated[
    int | None, Query(ge=0, lt=2**31, description="Feature that is shown side by side.")
]


@dataclass(frozen=True)
class Comparisons:
    comparisons: list[ComparisonFigures]
    next_cursor: str | None
    sae: str | None


@router.page("/comparisons", "comparisons.html", nav=Nav("Comparisons", 13, below="SAEs"))
def comparisons(
    session: SessionDep,
    sae: Annotated[str | None, Query(max_length=200)] = None,
    cursor: CursorParam = None,
) -> Comparisons:
    page = endpoints.list_all(session, sae, DEFAULT_LIMIT, cursor)
    return Comparisons([figures_of(each) for each in page.items], page.next_cursor, sae)


@dataclass(frozen=True)
class Side:
    """One of two features that are shown side by side."""

    sae: SideView
    index: int
    shown: FeatureShown | None
    """None where it is not indexed."""


@dataclass(frozen=True)
class OneComparison:
    it: ComparisonFigures
    has_run: bool
    """Whether the run that made it is still there."""
    matched: bool
    min_value: float | None
    pairs: list[FeatureMatch]
    next_cursor: str | None
    first: bool
    sides: list[Side]
    a: int | None
    b: int | None
    examples: int
    sort: MatchSort
    order: SortOrder


@router.page("/comparisons/{comparison}", "comparison.html")
def comparison(
    session: SessionDep,
    app: ContextDep,
    caller: CallerDep,
    reference: ComparisonReference,
    matched: Annotated[bool, Query(description="Partners, or near features that are none.")] = True,
    min_value: Annotated[float | None, Query(ge=-1, le=1, description="So alike at least.")] = None,
    a: Shown = None,
    b: Shown = None,
    sort: MatchSort = "value",
    order: SortOrder | None = None,
    cursor: CursorParam = None,
) -> OneComparison:
    view = endpoints.show(session, reference)
    page = endpoints.list_matches(
        session, reference, matched, min_value, sort, order, _PAIRS, cursor
    )
    sides = [
        _side(session, app, name, sae, index, caller.name)
        for name, sae, index in (("a", view.a, a), ("b", view.b, b))
        if index is not None
    ]
    return OneComparison(
        it=figures_of(view),
        has_run=bool(find_runs(session, [view.id])),
        matched=matched,
        min_value=min_value,
        pairs=page.items,
        next_cursor=page.next_cursor,
        first=cursor is None,
        sides=sides,
        a=a,
        b=b,
        examples=_EXAMPLES,
        sort=sort,
        order=order or endpoints.natural_order(sort),
    )


def _side(
    session: Session, app: AppContext, name: str, sae: SideView, index: int, reader: str
) -> Side:
    """422 for a latent that the SAE does not have."""
    found = find_feature(session, str(sae.id), index)
    if index >= sae.d_sae:
        raise InvalidRequest([(name, f"'{sae.name}' has features 0 to {sae.d_sae - 1}")])
    if found is None or found.feature is None:
        return Side(sae, index, None)
    page = page_of(session, app.tokens, found, reader)
    return Side(sae, index, shown_feature(page, Drawing(view="wrapped", group="top")))
