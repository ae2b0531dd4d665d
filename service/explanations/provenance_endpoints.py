"""What stands behind explanations and scores: judgements one by one, provenance, prompts."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import Path, Query

from monosemy.specs.rest.explanations import ScoreView
from monosemy.specs.rest.provenance import ExplanationProvenance, JudgedTexts, PromptView
from monosemy.workspace import Workspace
from service.edge.context import ContextDep, SessionDep
from service.edge.routing import ApiRouter
from service.explanations.endpoints import ExplanationId
from service.explanations.judgements import Outcome, judged_texts, require_score
from service.explanations.provenance import prompt_view, provenance_of
from service.explanations.service import require_explanation, require_feature
from service.features.endpoints import Index
from service.keys.authorize import CallerDep, CanRead
from service.kit.pagination import DEFAULT_LIMIT, CursorParam, Limit
from service.kit.problems import documented
from service.saes.endpoints import SaeReference

router = ApiRouter(tags=["explanations"], dependencies=[CanRead])

ScoreId = Annotated[uuid.UUID, Path(description="Id of the score.")]
OutcomeParam = Annotated[
    Outcome | None, Query(description="Only judgements that came to this; all if left out.")
]
PromptVersion = Annotated[
    int | None, Query(ge=1, le=100_000, description="The newest if left out.")
]
_SCORE = "/saes/{sae}/features/{index}/scores/{score}"


@router.get(_SCORE, summary="Show a score", responses=documented(404, 422))
def show_score(session: SessionDep, sae: SaeReference, index: Index, score: ScoreId) -> ScoreView:
    """With everything that it was computed from."""
    found = require_feature(session, sae, index)
    return ScoreView.model_validate(require_score(session, found, index, score))


@router.get(
    _SCORE + "/judgements", summary="List a score's judgements", responses=documented(404, 422)
)
def list_judgements(
    session: SessionDep,
    context: ContextDep,
    sae: SaeReference,
    index: Index,
    score: ScoreId,
    outcome: OutcomeParam = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> JudgedTexts:
    """Each text with what the judge said of it, what is so, and its stratum, in the order in which
    they were judged."""
    found = require_feature(session, sae, index)
    wanted = require_score(session, found, index, score)
    workspace = Workspace(context.settings.artifacts)
    return judged_texts(
        session, context.tokens, workspace, found, index, wanted, outcome, cursor, limit
    )


@router.get(
    "/explanations/{explanation}/provenance",
    summary="Show where an explanation is from",
    responses=documented(404, 422),
)
def show_provenance(
    session: SessionDep, context: ContextDep, caller: CallerDep, explanation: ExplanationId
) -> ExplanationProvenance:
    """Prompt, judge, texts shown, index, SAE, host model and text, with their digests."""
    found = require_explanation(session, explanation)
    workspace = Workspace(context.settings.artifacts)
    return provenance_of(session, context.tokens, workspace, found, caller.name)


@router.get("/prompts/{prompt}", summary="Show a prompt", responses=documented(404, 422))
def show_prompt(
    prompt: Annotated[str, Path(max_length=100, description="Its name.")],
    version: PromptVersion = None,
) -> PromptView:
    """The words that judges are asked with; a version never changes."""
    return prompt_view(prompt, version)
