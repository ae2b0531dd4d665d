"""Scores of an SAE as the report takes them."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import ARRAY, Text, and_, cast, func, select
from sqlalchemy.orm import Session

from monosemy.interp.report.table import FeatureScores, Scored, scored
from service.database.tables import Explanation, Feature, Score
from service.explanations.repository import score_of

_COLUMNS = ("scorer", "metric", "value", "low", "high", "n", "n_failed")


def scored_features(session: Session, sae_id: uuid.UUID) -> list[int]:
    """Indices of the features with a scored explanation."""
    query = (
        select(Explanation.feature)
        .join(Score, score_of(Explanation))
        .where(Explanation.sae_id == sae_id)
        .distinct()
        .order_by(Explanation.feature)
    )
    return list(session.scalars(query))


def fires_seldom(session: Session, sae_id: uuid.UUID, latents: int, few: int) -> dict[str, float]:
    """``silent`` and ``few``: shares of the latents that fire never, and less than ``few`` times,
    in the index."""
    silent, seldom = (
        session.scalar(
            select(func.count()).where(Feature.sae_id == sae_id, Feature.postings < most)
        )
        or 0
        for most in (1, few)
    )
    return {"silent": silent / latents, "few": seldom / latents}


def densities(session: Session, sae_id: uuid.UUID, features: list[int]) -> dict[int, float]:
    """By feature, on which share of tokens it fires."""
    query = select(Feature.index, Feature.density).where(
        Feature.sae_id == sae_id, Feature.index.in_(features)
    )
    return dict(session.execute(query).tuples().all())


def scores_state(session: Session, sae_id: uuid.UUID) -> tuple[int, Any]:
    """(number of scores, time of the newest): changes whenever scores come or go."""
    query = select(func.count(), func.max(Score.created_at)).where(Score.sae_id == sae_id)
    count, newest = session.execute(query).one()
    return count, newest


def report_rows(
    session: Session, sae_id: uuid.UUID, features: list[int]
) -> tuple[list[FeatureScores], list[list[float] | None]]:
    """Of each feature its newest scored explanation with the newest score by every scorer, and the
    explanation's embedding."""
    newest = (
        select(Explanation.sae_id, Explanation.id)
        .distinct(Explanation.feature)
        .join(Score, score_of(Explanation))
        .where(Explanation.sae_id == sae_id, Explanation.feature.in_(features))
        .order_by(Explanation.feature, Explanation.created_at.desc(), Explanation.id)
    ).subquery("newest")
    # Single judgements are most of a score's bytes, and a report has no use for them.
    slim = Score.details.op("-")("judgements")
    for part in ("baseline", "empty"):
        slim = slim.op("#-")(cast([part, "judgements"], ARRAY(Text)))
    query = (
        select(
            Explanation.feature,
            Explanation.text,
            Explanation.embedding,
            *(getattr(Score, name) for name in _COLUMNS),
            slim.label("details"),
        )
        .distinct(Explanation.feature, Score.scorer)
        .join(newest, and_(newest.c.sae_id == Explanation.sae_id, newest.c.id == Explanation.id))
        .join(Score, score_of(Explanation))
        .order_by(Explanation.feature, Score.scorer, Score.created_at.desc(), Score.id)
    )
    scores: dict[int, dict[str, Scored]] = {}
    explanations: dict[int, tuple[str, Any]] = {}
    for row in session.execute(query):
        values = row._mapping
        explanations[row.feature] = (row.text, row.embedding)
        columns = {name: values[name] for name in (*_COLUMNS, "details")}
        scores.setdefault(row.feature, {})[row.scorer] = scored(columns)
    table = [FeatureScores(each, explanations[each][0], scores[each]) for each in sorted(scores)]
    return table, [explanations[each.feature][1] for each in table]
