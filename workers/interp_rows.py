"""Explanations and scores in Postgres.  Equal work has an equal ``key`` and is stored once."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Text, cast, exists, func, literal, select
from sqlalchemy.dialects.postgresql import aggregate_order_by, insert
from sqlalchemy.orm import Session

from monosemy.data.store import TokenStore
from monosemy.interp.explainers.base import Explanation as Explained
from monosemy.interp.scorers.result import ScoreResult
from monosemy.interp.statistics.student import mean_interval
from service.database.judge_tables import Spend
from service.database.storable import storable, storable_text
from service.database.tables import Context, Explanation, Run, Score
from service.explanations.repository import nearest, score_columns, score_of


def publish_explanation(
    session: Session,
    sae_id: uuid.UUID,
    run_id: uuid.UUID,
    feature: int,
    key: str,
    explained: Explained,
    embedding: Sequence[float] | None,
) -> None:
    """Stores an explanation unless the same work is stored already."""
    values = {
        "sae_id": sae_id,
        "run_id": run_id,
        "feature": feature,
        "key": key,
        "explainer": explained.provenance["explainer"],
        "label": storable_text(explained.label),
        "text": storable_text(explained.text),
        "judge": (explained.provenance.get("judge") or {}).get("model", ""),
        "provenance": storable({**explained.provenance, "confidence": explained.confidence}),
        "created_by": select(Run.created_by).where(Run.id == run_id).scalar_subquery(),
        "embedding": embedding,
    }
    session.execute(
        insert(Explanation)
        .values(**values)
        .on_conflict_do_nothing(constraint="uq_explanations_key")
    )


def publish_score(
    session: Session,
    sae_id: uuid.UUID,
    explanation_id: uuid.UUID,
    run_id: uuid.UUID,
    key: str,
    result: ScoreResult,
) -> None:
    """Stores a score unless the same work is stored already."""
    values = {
        "sae_id": sae_id,
        "explanation_id": explanation_id,
        "run_id": run_id,
        "key": key,
        **score_columns(result),
    }
    session.execute(
        insert(Score).values(**values).on_conflict_do_nothing(constraint="uq_scores_key")
    )


def keep_texts(session: Session, store: TokenStore, used: Iterable[int]) -> None:
    """Puts these rows of the text beside those of examples, so that what was judged can be read."""
    start = store.row_start
    rows = [
        {
            "text_id": store.text_id,
            "row": row,
            "document": int(store.row_document[row]),
            "start": int(start[row]),
            "token_ids": np.asarray(
                store.tokens[int(start[row]) : int(start[row + 1])], dtype="<u4"
            ).tobytes(),
        }
        # In order, or two workers may wait for each other.
        for row in sorted({each for each in used if 0 <= each < len(start) - 1})
    ]
    if rows:
        session.execute(insert(Context).values(rows).on_conflict_do_nothing())


def explained_features(session: Session, sae_id: uuid.UUID, key: str) -> set[int]:
    """Features whose explanation under ``key`` is stored."""
    query = select(Explanation.feature).where(Explanation.sae_id == sae_id, Explanation.key == key)
    return set(session.scalars(query))


def any_explanation(session: Session, sae_id: uuid.UUID) -> bool:
    """Whether any feature of the SAE is explained."""
    return session.scalar(select(exists().where(Explanation.sae_id == sae_id))) is True


def some_explained(session: Session, sae_id: uuid.UUID, key: str, limit: int = 1000) -> list[int]:
    """The first features whose explanation under ``key`` is stored."""
    query = (
        select(Explanation.feature)
        .where(Explanation.sae_id == sae_id, Explanation.key == key)
        .order_by(Explanation.feature)
        .limit(limit)
    )
    return list(session.scalars(query))


def unscored(
    session: Session,
    sae_id: uuid.UUID,
    key: str,
    features: Sequence[int] | None,
    explanation: uuid.UUID | None,
) -> list[tuple[int, uuid.UUID]]:
    """(feature, explanation) of the newest explanations without a score under ``key``; as
    ``work_items.plan_scores`` takes them."""
    query = (
        select(Explanation.feature, Explanation.id)
        .distinct(Explanation.feature)
        .where(Explanation.sae_id == sae_id)
        .order_by(Explanation.feature, Explanation.created_at.desc(), Explanation.id)
    )
    if explanation is not None:
        query = query.where(Explanation.id == explanation)
    if features is not None:
        query = query.where(Explanation.feature.in_(features))
    scored = select(Score.explanation_id).where(Score.sae_id == sae_id, Score.key == key)
    done = set(session.scalars(scored))
    return [(row[0], row[1]) for row in session.execute(query) if row[1] not in done]


def texts_of(
    session: Session, sae_id: uuid.UUID, explanations: Sequence[uuid.UUID]
) -> dict[uuid.UUID, str]:
    query = select(Explanation.id, Explanation.text).where(
        Explanation.sae_id == sae_id, Explanation.id.in_(explanations)
    )
    return {row[0]: row[1] for row in session.execute(query)}


def spent(session: Session, run_id: uuid.UUID) -> dict[str, Any]:
    """Calls, tokens and cost of a run so far."""
    row = session.get(Spend, run_id, populate_existing=True)
    names = ("calls", "prompt_tokens", "cached_tokens", "completion_tokens", "cost")
    return {name: getattr(row, name) if row is not None else 0 for name in names}


def explanations_digest(session: Session, sae_id: uuid.UUID, before: dt.datetime) -> str:
    """Names the set of an SAE's explanations that were there ``before``."""
    listed = func.string_agg(
        cast(Explanation.id, Text), aggregate_order_by(literal(","), Explanation.id)
    )
    query = select(func.md5(listed)).where(
        Explanation.sae_id == sae_id, Explanation.created_at <= before
    )
    return session.scalar(query) or ""


def nearest_features(
    session: Session, explanation: Explanation, count: int, before: dt.datetime
) -> list[tuple[int, float]]:
    """The ``count`` other features of its SAE with the nearest explanations, nearest first, and
    cosines, of those that were there ``before``; ``explanation`` has an embedding."""
    cosines: dict[int, float] = {}
    # Features may have several explanations each, its own among them.
    for limit in (4 * count, 64 * count):
        listed = nearest(session, explanation, explanation.sae_id, limit)
        for other, _, cosine in listed:
            if other.feature != explanation.feature and other.created_at <= before:
                cosines.setdefault(other.feature, cosine)
        if len(cosines) >= count or len(listed) < limit:
            break
    return list(cosines.items())[:count]


def score_summary(session: Session, sae_id: uuid.UUID, key: str) -> dict[str, Any]:
    """Means over the explanations scored under ``key``, and how far they lie above borrowed ones.

    ``scored`` counts them; ``mean_value`` has its 95 % interval ``mean_low`` to ``mean_high``;
    ``mean_gain`` is the mean of value minus baseline over the ``gain_n`` pairs, likewise.
    """
    query = (
        select(Score.value, Score.baseline)
        .join(Explanation, score_of(Explanation))
        .where(Explanation.sae_id == sae_id, Score.key == key, Score.value.is_not(None))
        # In one order: else the last bit of a mean is another each time.
        .order_by(Explanation.feature, Explanation.key)
    )
    rows = session.execute(query).all()
    pairs = [(row.value, row.baseline) for row in rows if row.baseline is not None]
    mean, low, high = mean_interval([row.value for row in rows])
    gain, gain_low, gain_high = mean_interval([value - base for value, base in pairs])
    return {
        "scored": len(rows),
        "mean_value": mean,
        "mean_low": low,
        "mean_high": high,
        "mean_baseline": mean_interval([base for _, base in pairs])[0],
        "mean_gain": gain,
        "gain_low": gain_low,
        "gain_high": gain_high,
        "gain_n": len(pairs),
    }
