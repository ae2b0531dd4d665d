"""POST /inference/contrast"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import Response

from monosemy.specs.inference.contrast import (
    ContrastFeature,
    ContrastRequest,
    ContrastResponse,
    Rerank,
)
from service.database.session import transaction
from service.edge.context import AppContext, ContextDep
from service.edge.routing import Router, reads_only
from service.features.repository import labels_of
from service.inference.rerank import rerank
from service.inference.service import inference_problems, sae_body
from service.inference.turns import answered
from service.keys.authorize import CanInfer, KeyId
from service.kit.problems import documented
from service.saes.repository import find_sae
from service.saes.views import sae_summary

router = Router(prefix="/inference", tags=["inference"], dependencies=[CanInfer])


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
    body = {
        "sae": sae_body(sae),
        "model": model.spec,
        **request.model_dump(include={"positive", "negative", "chat", "pooling", "statistic"}),
        "top": max(request.top_k, candidates),
    }
    with inference_problems():
        answer = context.inference.contrast(body)
        found = ContrastResponse(
            sae=sae_summary(sae, model),
            statistic=request.statistic,
            positive=_features(answer["positive"]),
            negative=_features(answer["negative"]),
            n_positive=len(request.positive),
            n_negative=len(request.negative),
            **{name: answer[name] for name in ("tokens", "relabellings", "exact")},
            reranked=False,
            reason=None,
        )
    if request.rerank is not None:
        found.positive, found.reason = _reranked(context, sae.id, found.positive, request.rerank)
        found.reranked = found.reason is None
    del found.positive[request.top_k :], found.negative[request.top_k :]
    shown = [*found.positive, *found.negative]
    with transaction(context.engine) as session:
        labels = labels_of(session, sae.id, sorted({each.index for each in shown}))
    for each in shown:
        each.label = labels.get(each.index)
    return found


def _features(told: Sequence[dict[str, Any]]) -> list[ContrastFeature]:
    features = []
    for rank, each in enumerate(told, start=1):
        figures = {name: value for name, value in each.items() if name != "statistic"}
        index = figures.pop("feature")
        features.append(ContrastFeature(index=index, label=None, rank=rank, **figures))
    return features


def _reranked(
    context: AppContext, sae_id: uuid.UUID, features: list[ContrastFeature], asked: Rerank
) -> tuple[list[ContrastFeature], str | None]:
    """The candidates in their new order, then the rest; or all as they were, and why."""
    by_index = {each.index: each for each in features[: asked.candidates]}
    order, reason = rerank(context, sae_id, list(by_index), asked.description)
    if order is None:
        return features, reason
    for place in order:
        by_index[place.index].similarity = place.similarity
        by_index[place.index].rank_score = place.rank_score
    rest = features[asked.candidates :]
    return [by_index[place.index] for place in order] + rest, None
