"""/saes/{sae}/features: the table of an SAE's features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

from monosemy.specs.rest.attention import FeatureFamily
from monosemy.specs.rest.features import FeatureSummary
from monosemy.specs.rest.saes import SaeDetail
from service.edge.context import ContextDep, SessionDep
from service.features.endpoints import list_all as list_features
from service.features.filters import FilterDep
from service.features.listing import FIRST_SCORER, FeatureFilter, usual_scorer
from service.kit.pagination import CursorParam
from service.pages.listed import along
from service.pages.page import PageRouter
from service.saes.endpoints import SaeReference, show
from service.tags.endpoints import list_all as list_tags

router = PageRouter()

_ROWS = 50
_TAGS = 100


@dataclass(frozen=True)
class Features:
    sae: SaeDetail
    features: list[FeatureSummary]
    next_cursor: str | None
    cursor: str | None
    filters: FeatureFilter
    along: dict[str, Any]
    """The order and filter, for the addresses of features."""
    scorers: list[str]
    tags: list[str]
    families: list[str]
    """Of attention features."""


@router.page("/saes/{sae}/features", "features.html", script="pages/features.js")
def features(
    session: SessionDep,
    context: ContextDep,
    sae: SaeReference,
    wanted: FilterDep,
    cursor: CursorParam = None,
) -> Features:
    detail = show(session, context, sae)
    scorer = wanted.scorer or usual_scorer(detail.features.scorers)
    wanted = replace(wanted, scorer=scorer)
    page = list_features(session, sae, wanted, limit=_ROWS, cursor=cursor)
    tags = [each.tag for each in list_tags(session, sae, limit=_TAGS).items]
    return Features(
        sae=detail,
        features=page.items,
        next_cursor=page.next_cursor,
        cursor=cursor,
        filters=wanted,
        along=along(wanted),
        scorers=sorted({FIRST_SCORER, scorer, *detail.features.scorers}),
        tags=sorted({*tags, *([wanted.tag] if wanted.tag else [])}),
        families=list(get_args(FeatureFamily)),
    )
