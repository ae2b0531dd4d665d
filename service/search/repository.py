"""The searches themselves: by meaning, by words, by spelling."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pgvector import HalfVector
from sqlalchemy import Select, exists, func, literal, select, text, true, tuple_
from sqlalchemy.orm import Session, defer, undefer

from monosemy.interp.heading import Heading
from service.database.tables import Explanation, Feature, Sae, Score
from service.features.heading import heading_in, leading_of
from service.features.repository import best_of

FeatureKey = tuple[uuid.UUID, int]


@dataclass(frozen=True)
class Scope:
    """Which features are searched."""

    saes: Sequence[uuid.UUID] | None = None
    """Those of these SAEs; None takes all."""
    min_density: float | None = None
    max_density: float | None = None


CANDIDATES = 100
"""Rows that each search brings to the fusion."""
SIMILARITY = 0.5
"""Least trigram word similarity: lets one wrong letter in five pass."""


def by_meaning(session: Session, embedding: Sequence[float], scope: Scope) -> list[FeatureKey]:
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
    query = _within(query, scope, Explanation.sae_id, Explanation.feature)
    rows = session.execute(query).all()
    # A relaxed order is nearly sorted, not sorted.
    return [(row[0], row[1]) for row in sorted(rows, key=lambda row: row.distance)]


def by_words(session: Session, query: str, scope: Scope) -> dict[str, list[FeatureKey]]:
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
    return _both(session, explained, labelled, scope)


def by_spelling(session: Session, query: str, scope: Scope) -> dict[str, list[FeatureKey]]:
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
    return _both(session, explained, labelled, scope)


def _both(
    session: Session,
    explained: Select[uuid.UUID, int],
    labelled: Select[uuid.UUID, int],
    scope: Scope,
) -> dict[str, list[FeatureKey]]:
    explained = _within(explained, scope, Explanation.sae_id, Explanation.feature)
    labelled = _within(labelled, scope, Feature.sae_id, Feature.index)
    return {
        name: [(row[0], row[1]) for row in session.execute(query.limit(CANDIDATES))]
        for name, query in (("explanations", explained), ("labels", labelled))
    }


def _within(query: Any, scope: Scope, sae: Any, feature: Any) -> Any:
    """``query``, whose rows name a feature by the columns ``sae`` and ``feature``, in ``scope``."""
    if scope.saes is not None:
        query = query.where(sae.in_(scope.saes))
    bounds = []
    if scope.min_density is not None:
        bounds.append(Feature.density >= scope.min_density)
    if scope.max_density is not None:
        bounds.append(Feature.density <= scope.max_density)
    if bounds and feature is Feature.index:
        query = query.where(*bounds)
    elif bounds:
        query = query.where(
            exists().where(Feature.sae_id == sae, Feature.index == feature, *bounds)
        )
    return query


class FeatureRow(NamedTuple):
    sae: Sae
    feature: Feature
    heading: Heading
    explanation: Explanation | None
    score: Score | None


def describe(
    session: Session, keys: Sequence[FeatureKey], with_examples: bool = False
) -> dict[FeatureKey, FeatureRow]:
    """What to show of each feature, in one statement."""
    if not keys:
        return {}
    explanation, score, best = best_of(Feature.sae_id, Feature.index)
    leading = leading_of(Feature.sae_id, Feature.index)
    query = (
        select(Sae, Feature, explanation, score, leading)
        .select_from(Feature)
        .join(Sae, Sae.id == Feature.sae_id)
        .outerjoin(best, true())
        .outerjoin(leading, true())
        .options(
            undefer(Feature.examples) if with_examples else defer(Feature.examples, raiseload=True),
            defer(Feature.evidence, raiseload=True),
            defer(explanation.embedding),
        )
        .where(tuple_(Feature.sae_id, Feature.index).in_(keys))
    )
    rows = [
        FeatureRow(row[0], row[1], heading_in(row, row[1].label), row[2], row[3])
        for row in session.execute(query)
    ]
    return {(item.feature.sae_id, item.feature.index): item for item in rows}
