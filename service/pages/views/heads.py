"""/saes/{sae}/heads: the attention heads behind an SAE, as a survey found them."""

from __future__ import annotations

from dataclasses import dataclass

from monosemy.specs.rest.attention import AttentionView
from monosemy.specs.rest.saes import SaeDetail
from service.attention.endpoints import show as survey_of
from service.attention.service import NO_SURVEY
from service.edge.context import ContextDep, SessionDep
from service.features.repository import labels_of
from service.kit.errors import Conflict
from service.pages.page import PageRouter
from service.saes.endpoints import SaeReference, show

router = PageRouter()

_NAMED = 5
"""Features of a head that are named."""


@dataclass(frozen=True)
class Heads:
    sae: SaeDetail
    survey: AttentionView | None
    why_not: str | None
    """Why there is none to show; None where there has been none."""
    labels: dict[int, str]
    """Of the features that are named."""
    named: int
    lengths: list[int]
    """Of the prefixes, in tokens."""


@router.page("/saes/{sae}/heads", "heads.html")
def heads(session: SessionDep, context: ContextDep, sae: SaeReference) -> Heads:
    detail = show(session, context, sae)
    try:
        survey = survey_of(context, session, sae)
    except Conflict as error:
        why_not = None if error.code == NO_SURVEY else str(error)
        return Heads(detail, None, why_not, {}, _NAMED, [])
    named = {each.index for head in survey.heads for each in head.features[:_NAMED]}
    labels = labels_of(session, detail.id, sorted(named))
    lengths = sorted(survey.heads[0].prefixes) if survey.heads else []
    return Heads(detail, survey, None, labels, _NAMED, lengths)
