"""Explanations and scores of features: asked for, given by people, listed, voted on."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Annotated, Any

from fastapi import BackgroundTasks, Path, Query, Request, Response

from monosemy.specs import ExplainRun, ScoreRun
from monosemy.specs.rest.explanations import (
    ExplainNow,
    ExplanationView,
    GivenScore,
    HumanExplanation,
    NearExplanation,
    NearExplanations,
    ScoreNow,
    ScoreView,
    VoteBody,
)
from monosemy.specs.rest.features import ExplanationBrief, Votes
from monosemy.specs.rest.page import Page
from monosemy.specs.rest.runs import RunFamily, RunSummary, RunTable
from service.database.session import transaction
from service.edge.context import ContextDep, SessionDep
from service.edge.routing import ApiRouter
from service.explanations import repository
from service.explanations.given_scores import store_given_score
from service.explanations.service import (
    delete_explanation,
    explanation_views,
    no_such_explanation,
    require_explanation,
    require_feature,
    store_human,
)
from service.features.endpoints import Index
from service.features.listing import check_scorer
from service.keys.authorize import CallerDep, CanRead, CanRun, KeyId
from service.kit.errors import Conflict
from service.kit.pagination import DEFAULT_LIMIT, CursorParam, Limit, by_time, each, paged
from service.kit.problems import documented
from service.runs.idempotency import IdempotencyKey
from service.runs.submission import submitted
from service.runs.under_way import under_way_on
from service.saes.endpoints import SaeReference
from service.saes.repository import find_sae
from service.search.embed import embed_text

router = ApiRouter(tags=["explanations"])

ExplanationId = Annotated[uuid.UUID, Path(description="Id of the explanation.")]
_OF_FEATURE = "/saes/{sae}/features/{index}"


@router.get(
    _OF_FEATURE + "/explanations",
    summary="List a feature's explanations",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def list_explanations(
    session: SessionDep,
    caller: CallerDep,
    sae: SaeReference,
    index: Index,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[ExplanationView]:
    """The newest first, each with its scores, their single judgements, votes and provenance."""
    sae_row = require_feature(session, sae, index)
    return paged(
        ("explanations", str(sae_row.id), index),
        by_time(),
        cursor,
        limit,
        partial(repository.explanations_of, session, sae_row.id, index),
        partial(explanation_views, session, caller.name),
    )


@router.post(
    _OF_FEATURE + "/explanations",
    status_code=201,
    summary="Explain a feature",
    dependencies=[CanRun],
    responses={
        202: {"model": RunFamily, "description": "The judge is asked by this run."},
        **documented(404, 409, 422),
    },
)
def explain(
    context: ContextDep,
    background: BackgroundTasks,
    request: Request,
    response: Response,
    caller: CallerDep,
    sae: SaeReference,
    index: Index,
    body: HumanExplanation | ExplainNow,
    idempotency_key: IdempotencyKey = None,
) -> ExplanationView | RunFamily:
    """With a `text` the explanation is yours and stored at once (201; equal ones only once).
    Without one the judge is asked for it, by a run of its own (202)."""
    if isinstance(body, HumanExplanation):
        # The embedder is asked before a transaction opens: it may take its time.
        label = body.label or _beginning(body.text)
        embedding, _ = embed_text(context, repository.text_to_embed(label, body.text))
        with transaction(context.engine) as session:
            sae_row = require_feature(session, sae, index)
            stored = store_human(
                session, sae_row.id, index, label, body.text, caller.key, embedding
            )
            return explanation_views(session, caller.name, [stored])[0]
    with transaction(context.engine) as session:
        sae_row = require_feature(session, sae, index)
        chosen = body.explanation.features.model_copy(update={"indices": [index]})
        spec = ExplainRun(
            sae=str(sae_row.id),
            explanation=body.explanation.model_copy(update={"features": chosen}),
        )
        response.status_code = 202
        key, once = caller.key, idempotency_key
        return submitted(session, context, background, request, response, spec, key, once)


@router.get(
    _OF_FEATURE + "/scores",
    summary="List a feature's scores",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def list_scores(
    session: SessionDep,
    sae: SaeReference,
    index: Index,
    scorer: Annotated[str | None, Query(max_length=100, description="Only by this one.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[ScoreView]:
    """Of all its explanations, the newest first, with every judgement."""
    sae_row = require_feature(session, sae, index)
    if scorer is not None:
        check_scorer(session, sae_row.id, scorer)
    return paged(
        ("scores", str(sae_row.id), index, scorer),
        by_time(),
        cursor,
        limit,
        partial(repository.scores_of, session, sae_row.id, index, scorer),
        each(ScoreView.model_validate),
    )


@router.post(
    _OF_FEATURE + "/scores",
    status_code=202,
    summary="Score a feature's explanation",
    dependencies=[CanRun],
    responses=documented(404, 409, 422),
)
def score(
    session: SessionDep,
    context: ContextDep,
    background: BackgroundTasks,
    request: Request,
    response: Response,
    key: KeyId,
    sae: SaeReference,
    index: Index,
    body: ScoreNow,
    idempotency_key: IdempotencyKey = None,
) -> RunFamily:
    """By a run of its own.  An explanation that has such a score already keeps it."""
    sae_row = require_feature(session, sae, index)
    if body.explanation is not None:
        row = require_explanation(session, body.explanation)
        if (row.sae_id, row.feature) != (sae_row.id, index):
            raise no_such_explanation(body.explanation)
    elif not repository.explanations_of(session, sae_row.id, index, None, 1):
        raise Conflict(
            f"Feature {index} has no explanation yet.",
            code="nothing-to-score",
            title="There is nothing to score",
        )
    spec = ScoreRun(
        sae=str(sae_row.id), features=[index], explanation=body.explanation, scoring=body.scoring
    )
    once = idempotency_key
    return submitted(session, context, background, request, response, spec, key, once)


@router.get(
    _OF_FEATURE + "/runs",
    summary="List the runs under way on a feature",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def list_under_way(session: SessionDep, sae: SaeReference, index: Index) -> RunTable:
    """Those that explain or score it and have not ended, the oldest first."""
    sae_row = require_feature(session, sae, index)
    rows = under_way_on(session, sae_row, index)
    return RunTable(items=[RunSummary.model_validate(row) for row in rows])


@router.post(
    "/explanations/{explanation}/scores",
    status_code=201,
    summary="Store a score that was had elsewhere",
    dependencies=[CanRun],
    responses=documented(404, 422),
)
def give_score(session: SessionDep, explanation: ExplanationId, body: GivenScore) -> ScoreView:
    """Its judgements are summed up as ours are: balanced accuracy with its interval.  Equal ones
    are stored once."""
    row = require_explanation(session, explanation)
    return ScoreView.model_validate(store_given_score(session, row, body))


@router.get(
    "/explanations/{explanation}",
    summary="Show an explanation",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def show(session: SessionDep, caller: CallerDep, explanation: ExplanationId) -> ExplanationView:
    """With its scores, their single judgements, votes and provenance."""
    row = require_explanation(session, explanation)
    return explanation_views(session, caller.name, [row])[0]


@router.delete(
    "/explanations/{explanation}",
    status_code=204,
    summary="Delete an explanation",
    dependencies=[CanRun],
    responses=documented(404, 422),
)
def remove(session: SessionDep, caller: CallerDep, explanation: ExplanationId) -> None:
    """With its scores and votes. Only for the API key that made it, itself or by a run, and for
    administrators."""
    delete_explanation(session, explanation, caller)


@router.put(
    "/explanations/{explanation}/vote",
    summary="Vote on an explanation",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def vote(
    session: SessionDep, caller: CallerDep, explanation: ExplanationId, body: VoteBody
) -> Votes:
    """One vote per API key, the latest counts; in open mode there is one voter."""
    row = require_explanation(session, explanation)
    repository.set_vote(session, row, caller.name, body.value)
    votes = repository.votes_by_explanation(session, [row], caller.name)
    up, down, mine = votes.get(explanation, (0, 0, 0))
    return Votes(up=up, down=down, mine=mine)


@router.get(
    "/explanations/{explanation}/nearest",
    summary="List explanations that mean the same",
    dependencies=[CanRead],
    responses=documented(404, 409, 422),
)
def near(
    session: SessionDep,
    explanation: ExplanationId,
    sae: Annotated[
        str | None, Query(max_length=200, description="Only of this SAE, by id or name.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="How many.")] = 10,
) -> NearExplanations:
    """By the cosine of their embeddings, over one SAE or all."""
    row = require_explanation(session, explanation)
    if row.embedding is None:
        raise Conflict(
            "It gets one by the next explain or score run, once the inference server is there.",
            code="not-embedded",
            title="The explanation has no embedding yet",
        )
    only = find_sae(session, sae)[0].id if sae is not None else None
    return NearExplanations(
        items=[
            NearExplanation(
                **_brief(other),
                sae_id=other.sae_id,
                sae=name,
                feature=other.feature,
                similarity=similarity,
            )
            for other, name, similarity in repository.nearest(session, row, only, limit)
        ]
    )


def _brief(explanation: Any) -> dict[str, Any]:
    return dict(ExplanationBrief.model_validate(explanation))


def _beginning(text: str) -> str:
    words = text.split()
    return " ".join(words[:8])[:200] + ("..." if len(words) > 8 else "")
