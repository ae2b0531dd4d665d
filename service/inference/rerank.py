"""Candidates put in order by what their explanations say, beside what they were found by."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from pgvector import HalfVector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.database.session import transaction
from service.database.tables import Explanation
from service.edge.context import AppContext
from service.features.repository import labels_of
from service.inference.client import InferenceAway, InferenceRefused
from service.search.embed import embed_text
from service.search.fusion import fuse

_BATCH = 64


@dataclass(frozen=True)
class Reranked:
    """A candidate in its new place."""

    index: int
    rank_score: float
    similarity: float | None


def rerank(
    context: AppContext, sae_id: uuid.UUID, candidates: Sequence[int], description: str
) -> tuple[list[Reranked] | None, str | None]:
    """(``candidates``, best first, by reciprocal rank fusion of the order they came in with that of
    their similarity to ``description``; None), or (None, why the embedder could not be asked).

    The similarity is the greatest cosine with an explanation of the feature; a feature without an
    embedded explanation is judged by its evidence label, and one without either keeps only its
    place in the first order.
    """
    embedding, reason = embed_text(context, description)
    if embedding is None:
        return None, reason
    with transaction(context.engine) as session:
        similar = explained_similarities(session, sae_id, candidates, embedding)
        labels = labels_of(session, sae_id, [each for each in candidates if each not in similar])
    try:
        similar |= _label_similarities(context, labels, embedding)
    except (InferenceAway, InferenceRefused) as error:
        return None, str(error)
    nearest = sorted((each for each in candidates if each in similar), key=lambda i: -similar[i])
    fused = fuse({"statistic": candidates, "similarity": nearest})
    return [Reranked(each.key, each.score, similar.get(each.key)) for each in fused], None


def explained_similarities(
    session: Session, sae_id: uuid.UUID, features: Sequence[int], embedding: Sequence[float]
) -> dict[int, float]:
    """Greatest cosine of ``embedding`` with an explanation, of the features that have one."""
    nearest = func.min(Explanation.embedding.cosine_distance(HalfVector(list(embedding))))
    query = (
        select(Explanation.feature, nearest)
        .where(
            Explanation.sae_id == sae_id,
            Explanation.feature.in_(features),
            Explanation.embedding.is_not(None),
        )
        .group_by(Explanation.feature)
    )
    rows = session.execute(query).tuples()
    return {feature: 1 - distance for feature, distance in rows if math.isfinite(distance)}


def _label_similarities(
    context: AppContext, labels: dict[int, str], embedding: Sequence[float]
) -> dict[int, float]:
    features = [feature for feature, label in labels.items() if label]
    similarities: dict[int, float] = {}
    for start in range(0, len(features), _BATCH):
        part = features[start : start + _BATCH]
        for feature, vector in zip(
            part, context.inference.embed([labels[each] for each in part]), strict=True
        ):
            cosine = sum(a * b for a, b in zip(vector, embedding, strict=False))
            if len(vector) != len(embedding) or not math.isfinite(cosine):
                raise InferenceAway("The inference server's embeddings are not what was agreed.")
            similarities[feature] = cosine
    return similarities
