"""The searches themselves: by meaning, by words, by spelling."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from pgvector import HalfVector
from sqlalchemy import Select, func, literal, select, text, true, tuple_
from sqlalchemy.orm import Session

from service.database.tables import Explanation, Feature, Sae, Score
from service.features.repository import best_of

FeatureKey = tuple[uuid.UUID, int]

CANDIDATES = 100
"""Rows that each search brings to the fusion."""
SIMILARITY = 0.5
"""Least trigram word similarity: lets one wrong letter in five pass."""


def by_meaning(
    session: Session, embedding: Sequence[float], sae: uuid.UUID | None
) -> list[FeatureKey]:
    """Nearest explanations by cosine distance, through the HNSW index."""
    # The index yields its nearest rows before the filter; it must go on until enough are left.
    session.execute(text("SET LOCAL hnsw.iterative_scan = relaxed_order"))
    session.execute(text(f"SET LOCAL hnsw.ef_search = {CANDIDATES}"))
    distance = Explanation.embedding.cosine_distance(HalfVector(list(embedding)))
    query = (
        select(Explanation.sae_id, Explanation.feature, distance.label("distance"))
        .where(Explanation.embedding.is_not(None))
        .order_by(distance)
        .limit(CANDIDATES)
    )
    if sae is not None:
        query = query.where(Explanation.sae_id == sae)
    rows = session.execute(query).all()
    # A relaxed order is nearly sorted, not sorted.
    return [(row[0], row[1]) for row in sorted(rows, key=lambda row: row.distance)]


def by_words(session: Session, query: str, sae: uuid.UUID | None) -> dict[str, list[FeatureKey]]:
    """Full-text matches in explanations and in evidence labels, two lists."""
    words = func.websearch_to_tsquery("english", query)
    explained = (
        select(Explanation.sae_id, Explanation.feature)
        .where(Explanation.words.op("@@")(words))
        .order_by(func.ts_rank_cd(Explanation.words, words, 1).desc(), Explanation.id)
    )
    labelled = (
        select(Feature.sae_id, Feature.index)
        .where(Feature.words.op("@@")(words))
        .order_by(
            func.ts_rank_cd(Feature.words, words, 1).desc(),
            Feature.max_activation.desc(),
            Feature.sae_id,
            Feature.index,
        )
    )
    return _both(session, explained, labelled, sae)


def by_spelling(session: Session, query: str, sae: uuid.UUID | None) -> dict[str, list[FeatureKey]]:
    """Texts in which a stretch of words looks like the query (trigrams), two lists."""
    session.execute(text(f"SET LOCAL pg_trgm.word_similarity_threshold = {SIMILARITY}"))
    pattern = literal(query)
    explained = (
        select(Explanation.sae_id, Explanation.feature)
        .where(pattern.op("<%")(Explanation.text))
        .order_by(func.word_similarity(query, Explanation.text).desc(), Explanation.id)
    )
    labelled = (
        select(Feature.sae_id, Feature.index)
        .where(pattern.op("<%")(Feature.label))
        .order_by(
            func.word_similarity(query, Feature.label).desc(),
            Feature.max_activation.desc(),
            Feature.sae_id,
            Feature.index,
        )
    )
    return _both(session, explained, labelled, sae)


def _both(
    session: Session,
    explained: Select[uuid.UUID, int],
    labelled: Select[uuid.UUID, int],
    sae: uuid.UUID | None,
) -> dict[str, list[FeatureKey]]:
    if sae is not None:
        explained = explained.where(Explanation.sae_id == sae)
        labelled = labelled.where(Feature.sae_id == sae)
    return {
        name: [(row[0], row[1]) for row in session.execute(query.limit(CANDIDATES))]
        for name, query in (("explanations", explained), ("labels", labelled))
    }


class Found(NamedTuple):
    sae: Sae
    feature: Feature
    explanation: Explanation | None
    score: Score | None


def describe(session: Session, keys: Sequence[FeatureKey]) -> dict[FeatureKey, Found]:
    """What to show of each feature, in one statement."""
    if not keys:
        return {}
    explanation, score, best = best_of(Feature.sae_id, Feature.index)
    query = (
        select(Sae, Feature, explanation, score)
        .select_from(Feature)
        .join(Sae, Sae.id == Feature.sae_id)
        .outerjoin(best, true())
        .where(tuple_(Feature.sae_id, Feature.index).in_(keys))
    )
    found = [Found(*row) for row in session.execute(query)]
    return {(item.feature.sae_id, item.feature.index): item for item in found}
