"""GET /saes/{id}/attention, and that of a feature"""

from __future__ import annotations

from monosemy.specs.rest.attention import AttentionView, SurveyedFeature
from monosemy.workspace import Workspace
from service.attention.service import feature_view, survey_of, survey_view
from service.edge.context import ContextDep, SessionDep
from service.edge.routing import ApiRouter
from service.features.endpoints import Index
from service.keys.authorize import CanRead
from service.kit.problems import documented
from service.saes.endpoints import SaeReference
from service.saes.repository import find_sae

router = ApiRouter(prefix="/saes/{sae}", tags=["saes"], dependencies=[CanRead])


@router.get(
    "/attention", summary="Show the heads behind an SAE", responses=documented(404, 409, 422)
)
def show(context: ContextDep, session: SessionDep, sae: SaeReference) -> AttentionView:
    """Every head's standard scores, its features, whether they are more alike than random ones, and
    how many features are of which family. A run of kind `attention` makes it, of an SAE at
    `attn.hook_z`; `head` and `family` filter the listing of features by it. 409 where there is
    none, and where the SAE's weights have changed since."""
    row, _ = find_sae(session, sae)
    return survey_view(row, survey_of(session, row, Workspace(context.settings.artifacts)))


@router.get(
    "/features/{index}/attention",
    summary="Show the head and family of a feature",
    responses=documented(404, 409, 422),
)
def show_feature(
    context: ContextDep, session: SessionDep, sae: SaeReference, index: Index
) -> SurveyedFeature:
    """Its share by head, where what adds to it comes from, and its family with the figures behind
    it. 409 as for the survey; 404 for a feature that did not fire."""
    row, _ = find_sae(session, sae)
    return feature_view(session, row, index, Workspace(context.settings.artifacts))
