"""/saes/{sae}/features/{index}: one feature, with all that is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Query
from sqlalchemy.orm import Session

from monosemy.models.sites import Z, parse_site
from monosemy.specs.rest.attention import SurveyedFeature
from monosemy.specs.rest.comparisons import FeatureLinkView
from monosemy.specs.rest.features import FeaturesAround
from monosemy.specs.rest.lists import ListSummary
from monosemy.specs.rest.runs import RunSummary
from monosemy.specs.rest.saes import SaeSummary
from monosemy.specs.scorers import SCORERS
from monosemy.workspace import Workspace
from service.attention.service import feature_view
from service.comparisons.service import links_elsewhere
from service.edge.context import AppContext, ContextDep, SessionDep
from service.features.around import features_around
from service.features.endpoints import Index, Listed
from service.features.filters import FilterDep
from service.features.repository import FoundFeature, find_feature
from service.features.service import no_such_feature, page_of
from service.keys.authorize import CallerDep
from service.kit.errors import Conflict, InvalidRequest, NotFound
from service.lists.repository import list_lists
from service.lists.service import summaries
from service.pages.feature.examples import WIDTHS, Context, Drawing, Scale, View
from service.pages.feature.shown import FeatureShown, shown_feature
from service.pages.page import PageRouter
from service.runs.under_way import under_way_on
from service.saes.endpoints import SaeReference
from service.saes.repository import no_such_sae
from service.saes.views import sae_summary

router = PageRouter()

_MOST_LISTS = 200


@dataclass(frozen=True)
class FeatureView:
    sae: SaeSummary
    index: int
    shown: FeatureShown | None
    """None where the feature is not indexed."""
    around: FeaturesAround
    links: list[FeatureLinkView]
    lists: list[ListSummary]
    """That the feature is in."""
    under_way: list[RunSummary]
    scorers: list[str]
    attention: SurveyedFeature | None
    """Its head and family, where a survey of the SAE's heads has found them."""


@router.page("/saes/{sae}/features/{index}", "feature.html", script="pages/feature.js")
def feature(
    session: SessionDep,
    app: ContextDep,
    caller: CallerDep,
    sae: SaeReference,
    index: Index,
    wanted: FilterDep,
    listed: Listed = None,
    view: View = "aligned",
    context: Context = "16",
    breaks: bool = False,
    scale: Scale = "feature",
    group: Annotated[str | None, Query(max_length=20)] = None,
) -> FeatureView:
    found = _found(session, sae, index)
    drawing = Drawing(view, context, breaks, scale, group)
    around = features_around(session, found.sae, index, wanted, listed)
    mine = list_lists(session, None, found.sae.id, index, None, _MOST_LISTS)
    shown = None
    if found.feature is not None:
        page = page_of(session, app.tokens, found, caller.name, WIDTHS[context])
        shown = shown_feature(page, drawing)
        names = [name for name, _ in shown.group_names]
        if group is not None and group not in names:
            raise InvalidRequest([("group", f"there is no group '{group}': {', '.join(names)}")])
    return FeatureView(
        sae=sae_summary(found.sae, found.model),
        index=index,
        shown=shown,
        around=around,
        links=links_elsewhere(session, found.sae.id, index),
        lists=summaries(session, mine),
        under_way=[
            RunSummary.model_validate(run) for run in under_way_on(session, found.sae, index)
        ],
        scorers=sorted(SCORERS),
        attention=_attention(session, app, found, index),
    )


def _attention(
    session: Session, app: AppContext, found: FoundFeature, index: int
) -> SurveyedFeature | None:
    if parse_site(found.sae.site).kind != Z:
        return None
    try:
        return feature_view(session, found.sae, index, Workspace(app.settings.artifacts))
    except (Conflict, NotFound):
        return None


def _found(session: Session, sae: str, index: int) -> FoundFeature:
    """404 for an SAE or a latent that there is not."""
    found = find_feature(session, sae, index)
    if found is None:
        raise no_such_sae(sae)
    if index >= found.sae.d_sae or (found.feature is None and found.sae.index is not None):
        raise no_such_feature(found.sae, index)
    return found
