"""Reads and writes of explanations, their scores and votes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from monosemy.interp.scorers.result import ScoreResult
from service.database.storable import storable
from service.database.tables import Explanation, Sae, Score, Vote
from service.kit.pagination import TimeKey, newest_first

_NEAREST_LOOKED_AT = 400
"""Entries of the vector index looked at in one go."""


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
        .join(Explanation, Explanation.id == Score.explanation_id)
        .where(Explanation.sae_id == sae_id, Explanation.feature == feature)
    )
    if scorer is not None:
        query = query.where(Score.scorer == scorer)
    return session.scalars(newest_first(query, Score, behind, limit)).all()


def scores_by_explanation(
    session: Session, explanations: Sequence[uuid.UUID]
) -> dict[uuid.UUID, list[Score]]:
    """The newest score first."""
    query = (
        select(Score)
        .where(Score.explanation_id.in_(explanations))
        .order_by(Score.created_at.desc(), Score.id)
    )
    found: dict[uuid.UUID, list[Score]] = {id_: [] for id_ in explanations}
    for score in session.scalars(query):
        found[score.explanation_id].append(score)
    return found


def votes_by_explanation(
    session: Session, explanations: Sequence[uuid.UUID]
) -> dict[uuid.UUID, tuple[int, int]]:
    """(for, against) where there are any."""
    query = (
        select(
            Vote.explanation_id,
            func.count().filter(Vote.value > 0),
            func.count().filter(Vote.value < 0),
        )
        .where(Vote.explanation_id.in_(explanations))
        .group_by(Vote.explanation_id)
    )
    return {id_: (up, down) for id_, up, down in session.execute(query)}


def set_vote(session: Session, explanation: uuid.UUID, voter: str, value: int) -> None:
    """0 takes the voter's vote back."""
    if value == 0:
        session.execute(delete(Vote).where(Vote.explanation_id == explanation, Vote.voter == voter))
        return
    statement = insert(Vote).values(explanation_id=explanation, voter=voter, value=value)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["explanation_id", "voter"], set_={"value": statement.excluded.value}
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
    return [(found, name, 1.0 - float(far)) for found, name, far in session.execute(query)]
