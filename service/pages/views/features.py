"""/saes/{sae}/features: the table of an SAE's features."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, get_args

from fastapi import Request
from starlette.responses import Response

from monosemy.specs.latent_classes import LatentClassFilter
from monosemy.specs.rest.attention import FeatureFamily
from monosemy.specs.rest.features import FeatureSummary
from monosemy.specs.rest.page import Page
from monosemy.specs.rest.saes import SaeDetail
from service.crosscoders.service import NO_CROSSCODER
from service.edge.context import ContextDep, SessionDep
from service.features.endpoints import list_all as list_features
from service.features.filters import FilterDep
from service.features.listing import FIRST_SCORER, FeatureFilter, usual_scorer
from service.kit.errors import Conflict, InvalidRequest
from service.kit.pagination import CursorParam
from service.pages.listed import along
from service.pages.page import PageRouter, shown
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
    classes: list[str]
    """Of a crosscoder's latents."""
    faults: dict[str, str] = field(default_factory=dict)
    """What is wrong with a filter, by its field: nothing is listed then."""


@router.page("/saes/{sae}/features", "features.html", script="pages/features.js")
def features(
    session: SessionDep,
    context: ContextDep,
    request: Request,
    sae: SaeReference,
    wanted: FilterDep,
    cursor: CursorParam = None,
) -> Features | Response:
    detail = show(session, context, sae)
    scorer = wanted.scorer or usual_scorer(detail.features.scorers)
    wanted = replace(wanted, scorer=scorer)
    page: Page[FeatureSummary] = Page(items=[], next_cursor=None)
    faults: dict[str, str] = {}
    status = 200
    try:
        page = list_features(session, sae, wanted, limit=_ROWS, cursor=cursor)
    except InvalidRequest as error:
        faults, status = dict(error.problems), 422
    except Conflict as error:
        filtered = "head" if error.code != NO_CROSSCODER else "latent_class"
        faults, status = {filtered: str(error)}, 409
    tags = [each.tag for each in list_tags(session, sae, limit=_TAGS).items]
    table = Features(
        sae=detail,
        features=page.items,
        next_cursor=page.next_cursor,
        cursor=cursor,
        faults=faults,
        filters=wanted,
        along=along(wanted),
        scorers=sorted({FIRST_SCORER, scorer, *detail.features.scorers}),
        tags=sorted({*tags, *([wanted.tag] if wanted.tag else [])}),
        families=list(get_args(FeatureFamily)),
        classes=list(get_args(LatentClassFilter)),
    )
    if not faults:
        return table
    return shown(request, "features.html", table, script="pages/features.js", status=status)
