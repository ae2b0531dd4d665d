"""Reads and writes of explanations, their scores and votes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, and_, delete, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from monosemy.interp.scorers.result import ScoreResult
from service.database.storable import storable
from service.database.tables import Explanation, Sae, Score, Vote
from service.kit.pagination import TimeKey, newest_first

_NEAREST_LOOKED_AT = 400
"""Entries of the vector index looked at in one go."""


def explanation_of_id(session: Session, id_: uuid.UUID, lock: bool = False) -> Explanation | None:
    """The explanation, whose SAE is not known."""
    query = select(Explanation).where(Explanation.id == id_)
    return session.scalar(query.with_for_update() if lock else query)


def score_of(explanation: Any, score: Any = Score) -> ColumnElement[bool]:
    """Condition on ``score``: it is one of ``explanation``; each is a table, an alias or a row."""
    return and_(score.sae_id == explanation.sae_id, score.explanation_id == explanation.id)


def explanations_of(
    session: Session, sae_id: uuid.UUID, feature: int, behind: TimeKey | None, limit: int
) -> Sequence[Explanation]:
    """Of one feature, the newest first."""
    query = select(Explanation).where(Explanation.sae_id == sae_id, Explanation.feature == feature)
    return session.scalars(newest_first(query, Explanation, behind, limit)).all()


def scores_of(
    session: Session,
    sae_id: uuid.UUID,
    feature: int,
    scorer: str | None,
    behind: TimeKey | None,
    limit: int,
) -> Sequence[Score]:
    """Scores of all explanations of one feature, the newest first."""
    query = (
        select(Score)
        .join(Explanation, score_of(Explanation))
        .where(Explanation.sae_id == sae_id, Explanation.feature == feature)
    )
    if scorer is not None:
        query = query.where(Score.scorer == scorer)
    return session.scalars(newest_first(query, Score, behind, limit)).all()


def scores_by_explanation(
    session: Session, explanations: Sequence[Explanation]
) -> dict[uuid.UUID, list[Score]]:
    """The newest score first."""
    query = (
        select(Score)
        .where(tuple_(Score.sae_id, Score.explanation_id).in_(_keys(explanations)))
        .order_by(Score.created_at.desc(), Score.id)
    )
    scores: dict[uuid.UUID, list[Score]] = {row.id: [] for row in explanations}
    for score in session.scalars(query):
        scores[score.explanation_id].append(score)
    return scores


def votes_by_explanation(
    session: Session, explanations: Sequence[Explanation], voter: str
) -> dict[uuid.UUID, tuple[int, int, int]]:
    """(for, against, what ``voter`` said or 0) where there are any."""
    query = (
        select(
            Vote.explanation_id,
            func.count().filter(Vote.value > 0),
            func.count().filter(Vote.value < 0),
            func.coalesce(func.sum(Vote.value).filter(Vote.voter == voter), 0),
        )
        .where(tuple_(Vote.sae_id, Vote.explanation_id).in_(_keys(explanations)))
        .group_by(Vote.explanation_id)
    )
    return {id_: (up, down, mine) for id_, up, down, mine in session.execute(query)}


def _keys(explanations: Sequence[Explanation]) -> list[tuple[uuid.UUID, uuid.UUID]]:
    return [(row.sae_id, row.id) for row in explanations]


def set_vote(session: Session, explanation: Explanation, voter: str, value: int) -> None:
    """0 takes the voter's vote back."""
    key = {"sae_id": explanation.sae_id, "explanation_id": explanation.id, "voter": voter}
    if value == 0:
        session.execute(delete(Vote).filter_by(**key))
        return
    statement = insert(Vote).values(**key, value=value)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=list(key), set_={"value": statement.excluded.value}
        )
    )


def text_to_embed(label: str, text: str) -> str:
    """What stands for an explanation in vector search."""
    return f"{label}. {text}"


def score_columns(result: ScoreResult) -> dict[str, Any]:
    """What the row of a score holds of it."""
    return {
        "scorer": result.scorer,
        "metric": result.metric,
        "value": result.value,
        "low": result.low,
        "high": result.high,
        "n": result.n,
        "n_failed": result.n_failed,
        "baseline": result.baseline.value if result.baseline else None,
        "details": storable(result.as_details()),
        "judge": (result.details.get("judge") or {}).get("model", ""),
    }


def add_human(session: Session, **values: Any) -> Explanation:
    """The explanation stored, or the equal one that was there."""
    session.execute(
        insert(Explanation)
        .values(**values)
        .on_conflict_do_nothing(constraint="uq_explanations_key")
    )
    return session.scalars(
        select(Explanation).where(
            Explanation.sae_id == values["sae_id"],
            Explanation.feature == values["feature"],
            Explanation.key == values["key"],
        )
    ).one()


def nearest(
    session: Session, explanation: Explanation, only: uuid.UUID | None, limit: int
) -> list[tuple[Explanation, str, float]]:
    """(explanation, its SAE's name, cosine) of the nearest others, the nearest first.

    ``explanation`` has an embedding.  Approximate, by the HNSW index.
    """
    # The index yields its nearest rows before the filter; it must go on until enough are left.
    session.execute(text("SET LOCAL hnsw.iterative_scan = strict_order"))
    session.execute(text(f"SET LOCAL hnsw.ef_search = {_NEAREST_LOOKED_AT}"))
    distance = Explanation.embedding.cosine_distance(explanation.embedding)
    query = (
        select(Explanation, Sae.name, distance)
        .join(Sae, Sae.id == Explanation.sae_id)
        .where(Explanation.embedding.is_not(None), Explanation.id != explanation.id)
        .order_by(distance)
        .limit(limit)
    )
    if only is not None:
        query = query.where(Explanation.sae_id == only)
    return [(other, name, 1.0 - float(far)) for other, name, far in session.execute(query)]


def best_embeddings(
    session: Session, sae: uuid.UUID, features: Sequence[int] | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """(features [n], embeddings [n, d]): of each feature's best scored embedded explanation, else
    its newest.  ``features``: of these alone; None: of all."""
    detection = and_(score_of(Explanation), Score.scorer == "detection")
    query = (
        select(Explanation.feature, Explanation.embedding)
        .distinct(Explanation.feature)
        .outerjoin(Score, detection)
        .where(Explanation.sae_id == sae, Explanation.embedding.is_not(None))
        .order_by(
            Explanation.feature,
            Score.value.desc().nulls_last(),
            Explanation.created_at.desc(),
            Explanation.id,
        )
    )
    if features is not None:
        query = query.where(Explanation.feature.in_(features))
    rows = session.execute(query).all()
    known = np.array([row[0] for row in rows], np.int64)
    if not rows:
        return known, np.zeros((0, 0), np.float32)
    return known, np.array([row[1] for row in rows], np.float32)
