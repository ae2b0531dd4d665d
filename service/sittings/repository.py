"""All SQL on sittings; nothing here commits."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.database.labelling_tables import Sitting
from service.database.tables import Explanation, Score
from service.explanations.repository import score_of


def find_sitting(session: Session, id_: uuid.UUID, lock: bool = False) -> Sitting | None:
    query = select(Sitting).where(Sitting.id == id_)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    return session.scalar(query)


def open_sitting(session: Session, explanation: Explanation, taker: str) -> Sitting | None:
    """The one that ``taker`` has begun on the explanation and not ended."""
    return session.scalar(
        select(Sitting).where(
            Sitting.sae_id == explanation.sae_id,
            Sitting.explanation_id == explanation.id,
            Sitting.taker == taker,
            Sitting.score_id.is_(None),
        )
    )


def latest_sitting(session: Session, explanation: Any, taker: str) -> Sitting | None:
    """The one that ``taker`` has open on the explanation, else the last that has ended."""
    return session.scalars(
        select(Sitting)
        .where(
            Sitting.sae_id == explanation.sae_id,
            Sitting.explanation_id == explanation.id,
            Sitting.taker == taker,
        )
        .order_by(Sitting.score_id.is_not(None), Sitting.created_at.desc())
    ).first()


def parameters_taken(
    session: Session, sae_id: uuid.UUID, feature: int, taker: str
) -> list[dict[str, Any]]:
    """Of every sitting that ``taker`` has begun on the feature, whichever explanation it was of."""
    query = select(Sitting.parameters).where(
        Sitting.sae_id == sae_id, Sitting.feature == feature, Sitting.taker == taker
    )
    return list(session.scalars(query))


def add_sitting(session: Session, **values: Any) -> uuid.UUID | None:
    """None where its taker has one open on the explanation."""
    statement = insert(Sitting).values(id=uuid.uuid4(), **values).on_conflict_do_nothing()
    return session.scalar(statement.returning(Sitting.id))


def set_columns(session: Session, row: Sitting, **values: Any) -> None:
    session.execute(
        update(Sitting)
        .where(Sitting.sae_id == row.sae_id, Sitting.id == row.id)
        .values(**values, changed_at=func.now())
        .execution_options(synchronize_session=False)
    )
    session.refresh(row)


def find_score(session: Session, explanation: Any, id_: uuid.UUID) -> Score | None:
    return session.scalar(select(Score).where(score_of(explanation), Score.id == id_))
