"""Reads of who answered what."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Select, and_, select, tuple_
from sqlalchemy.orm import Session

from service.database.labelling_tables import Sitting
from service.database.list_tables import ListEntry
from service.database.tables import Explanation, Score, Vote

Q = TypeVar("Q", bound="Select[*tuple[Any, ...]]")


def votes(
    session: Session, sae_id: uuid.UUID | None, list_id: uuid.UUID | None
) -> Iterator[tuple[str, uuid.UUID, bool]]:
    """(voter, explanation, whether for it)."""
    query = select(Vote.voter, Vote.explanation_id, Vote.value).join(
        Explanation,
        and_(Explanation.sae_id == Vote.sae_id, Explanation.id == Vote.explanation_id),
    )
    for voter, explanation, value in session.execute(_within(query, Explanation, sae_id, list_id)):
        yield voter, explanation, value > 0


def ended_sittings(
    session: Session, sae_id: uuid.UUID | None, list_id: uuid.UUID | None
) -> Sequence[Sitting]:
    query = select(Sitting).where(Sitting.score_id.is_not(None)).order_by(Sitting.created_at)
    return session.scalars(_within(query, Sitting, sae_id, list_id)).all()


def scores_of_judges(session: Session, ids: Sequence[uuid.UUID]) -> Sequence[Score]:
    return session.scalars(select(Score).where(Score.id.in_(ids))).all()


def _within(query: Q, table: Any, sae_id: uuid.UUID | None, list_id: uuid.UUID | None) -> Q:
    """Only features of the SAE, and of the list."""
    if sae_id is not None:
        query = query.where(table.sae_id == sae_id)
    if list_id is not None:
        entries = select(ListEntry.sae_id, ListEntry.feature).where(ListEntry.list_id == list_id)
        query = query.where(tuple_(table.sae_id, table.feature).in_(entries))
    return query
