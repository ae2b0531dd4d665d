"""POST /inference/contrast"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import partial

from fastapi import Response

from monosemy.specs.inference.contrast import (
    ContrastCall,
    ContrastFeature,
    ContrastRequest,
    ContrastResponse,
    Difference,
    Rerank,
    SetDifference,
)
from service.database.session import transaction
from service.edge.context import AppContext, ContextDep
from service.edge.routing import ApiRouter, reads_only
from service.features.repository import labels_of
from service.inference.rerank import rerank
from service.inference.service import host_spec, inference_problems, sae_place
from service.inference.turns import answered
from service.keys.authorize import CanInfer, KeyId
from service.kit.problems import documented
from service.saes.repository import find_sae
from service.saes.views import sae_summary

router = ApiRouter(prefix="/inference", tags=["inference"], dependencies=[CanInfer])


@router.post(
    "/contrast",
    summary="Features that tell one set of texts from another",
    response_model=ContrastResponse,
    responses=documented(404, 413, 422, 502, 503),
)
@reads_only
async def contrast(context: ContextDep, key: KeyId, request: ContrastRequest) -> Response:
    """Each text is read by the host model and SAE, each feature pooled to one value per text, and
    the values of the two sets compared. P-values are those of the best of all features (permutation
    test, maxT), so that what any two sets of texts would show by chance is told as such. With
    `rerank` the candidates of the positive side are ordered by the statistic and by how near their
    explanations are to a description, joined by reciprocal rank fusion."""
    return await answered(context, key, partial(_contrast, context, request))


def _contrast(context: AppContext, request: ContrastRequest) -> ContrastResponse:
    with transaction(context.engine) as session:
        sae, model = find_sae(session, request.sae)
    candidates = request.rerank.candidates if request.rerank else 0
    call = ContrastCall(
        sae=sae_place(sae),
        model=host_spec(model),
        top=max(request.top_k, candidates),
        values=request.values,
        **request.sets(),
    )
    with inference_problems():
        answer = context.inference.contrast(call)
    positive, reason = _features(answer.positive), None
    if request.rerank is not None:
        positive, reason = _reranked(context, sae.id, positive, request.rerank)
    response = ContrastResponse(
        sae=sae_summary(sae, model),
        statistic=request.statistic,
        positive=positive[: request.top_k],
        negative=_features(answer.negative)[: request.top_k],
        n_positive=len(request.positive),
        n_negative=len(request.negative),
        tokens=answer.tokens,
        relabellings=answer.relabellings,
        exact=answer.exact,
        reranked=request.rerank is not None and reason is None,
        reason=reason,
    )
    listed = [*response.positive, *response.negative]
    with transaction(context.engine) as session:
        labels = labels_of(session, sae.id, sorted({each.index for each in listed}))
    for each in listed:
        each.label = labels.get(each.index)
    return response


def _features(differences: Sequence[Difference]) -> list[ContrastFeature]:
    return [
        ContrastFeature(
            index=each.feature,
            label=None,
            rank=rank,
            **each.model_dump(include=set(SetDifference.model_fields)),
        )
        for rank, each in enumerate(differences, start=1)
    ]


def _reranked(
    context: AppContext, sae_id: uuid.UUID, features: list[ContrastFeature], wanted: Rerank
) -> tuple[list[ContrastFeature], str | None]:
    """The candidates in their new order, then the rest; or all as they were, and why."""
    by_index = {each.index: each for each in features[: wanted.candidates]}
    order, reason = rerank(context, sae_id, list(by_index), wanted.description)
    if order is None:
        return features, reason
    for place in order:
        by_index[place.index].similarity = place.similarity
        by_index[place.index].rank_score = place.rank_score
    rest = features[wanted.candidates :]
    return [by_index[place.index] for place in order] + rest, None
