"""What stands behind a feature's words: judgements one by one, provenance, prompts."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from monosemy.interp import metric_words, strata
from monosemy.specs.rest.provenance import ExplanationProvenance, JudgedText, PromptView
from monosemy.workspace import Workspace
from service.database.tables import Sae
from service.edge.context import ContextDep, SessionDep
from service.explanations.endpoints import ExplanationId
from service.explanations.judgements import count_outcomes, judged_texts, require_score, strata_in
from service.explanations.provenance import asked_with, provenance_of
from service.explanations.provenance_endpoints import (
    OutcomeParam,
    PromptVersion,
    ScoreId,
    show_prompt,
)
from service.explanations.service import (
    explanation_views,
    no_such_explanation,
    require_explanation,
    require_feature,
)
from service.features.endpoints import Index
from service.features.repository import max_activations
from service.keys.authorize import CallerDep
from service.kit.pagination import DEFAULT_LIMIT, CursorParam
from service.pages.feature.scores import ScoreShown, shown_score
from service.pages.feature.shown import judge_words
from service.pages.page import PageRouter
from service.saes.endpoints import SaeReference

router = PageRouter()


@dataclass(frozen=True)
class Judgements:
    row: Sae
    sae: str
    index: int
    explanation_id: uuid.UUID
    label: str
    text: str
    prompt: tuple[str, int] | None
    """Name and version of the prompt that was asked with."""
    shown: ScoreShown
    judge: str | None
    """How good the judge is."""
    maximum: float
    judged: list[JudgedText]
    next_cursor: str | None
    outcome: str | None
    outcomes: Mapping[str, int]
    says_yes_or_no: bool
    """Else each judgement is a value."""
    value_of: str
    """What such a value is, and its unit."""
    stratum_name: Callable[[int], str]
    strata_said: str
    """What strata are, where some text has one."""


@router.page("/saes/{sae}/features/{index}/scores/{score}", "judgements.html")
def judgements(
    session: SessionDep,
    context: ContextDep,
    caller: CallerDep,
    sae: SaeReference,
    index: Index,
    score: ScoreId,
    outcome: OutcomeParam = None,
    cursor: CursorParam = None,
) -> Judgements:
    found = require_feature(session, sae, index)
    row = require_score(session, found, index, score)
    workspace = Workspace(context.settings.artifacts)
    page = judged_texts(
        session,
        context.tokens,
        workspace,
        found,
        index,
        row,
        outcome,
        cursor,
        DEFAULT_LIMIT,
    )
    said = require_explanation(session, row.explanation_id)
    detail = explanation_views(session, caller.name, [said])[0]
    shown = shown_score(next(each for each in detail.scores if each.id == row.id))
    test = shown.score.judge_test
    count = strata.how_many(strata_in(row.details))
    return Judgements(
        row=found,
        sae=found.name,
        index=index,
        explanation_id=said.id,
        label=said.label,
        text=said.text,
        prompt=asked_with(row.details),
        shown=shown,
        judge=None if test is None else judge_words(shown.score.judge, test),
        maximum=max_activations(session, found.id, [index]).get(index, 0.0),
        judged=page.items,
        next_cursor=page.next_cursor,
        outcome=outcome,
        says_yes_or_no=any(each.answer is not None or each.failed for each in page.items),
        value_of=metric_words.judged(row.scorer, row.metric),
        stratum_name=partial(strata.name, count=count),
        strata_said=(
            f"{strata.part(count).capitalize()}s are of the activations by strength, "
            f"1 the weakest, {count} the strongest."
            if count
            else ""
        ),
        outcomes={str(name): count for name, count in count_outcomes(row.details).items()},
    )


@dataclass(frozen=True)
class Provenance:
    row: Sae
    sae: str
    index: int
    maximum: float
    found: ExplanationProvenance
    judge: str | None
    stratum_name: Callable[[str], str]


@router.page("/saes/{sae}/features/{index}/explanations/{explanation}", "explanation.html")
def provenance(
    session: SessionDep,
    context: ContextDep,
    caller: CallerDep,
    sae: SaeReference,
    index: Index,
    explanation: ExplanationId,
) -> Provenance:
    place = require_feature(session, sae, index)
    row = require_explanation(session, explanation)
    if (row.sae_id, row.feature) != (place.id, index):
        raise no_such_explanation(explanation)
    workspace = Workspace(context.settings.artifacts)
    found = provenance_of(session, context.tokens, workspace, row, caller.name)
    test = found.explanation.judge_test
    return Provenance(
        row=place,
        sae=place.name,
        index=index,
        maximum=max_activations(session, place.id, [index]).get(index, 0.0),
        found=found,
        judge=None if test is None else judge_words(found.explanation.judge, test),
        stratum_name=partial(
            strata.name, count=strata.how_many(each.group for each in found.examples)
        ),
    )


@dataclass(frozen=True)
class PromptShown:
    prompt: PromptView


@router.page("/prompts/{prompt}", "prompt.html")
def prompt_page(prompt: str, version: PromptVersion = None) -> PromptShown:
    return PromptShown(show_prompt(prompt, version))
