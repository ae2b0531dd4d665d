"""Reads of what is to be labelled, and of what a person has done there."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, not_, select, tuple_
from sqlalchemy.orm import Session

from monosemy.specs.rest.labelling import LabellingMode
from service.database.labelling_tables import Sitting
from service.database.list_tables import ListEntry
from service.database.tables import Explanation, Score, Vote
from service.explanations.repository import score_of
from service.explanations.service import HUMAN
from service.keys.authorize import Caller

Place = tuple[uuid.UUID, int]
"""(SAE, feature)."""


def is_done(mode: LabellingMode, caller: Caller, sae_id: Any, feature: Any) -> ColumnElement[bool]:
    """Condition on a feature: ``caller`` has done there what ``mode`` asks for."""
    if mode == "judge":
        return exists().where(
            Sitting.sae_id == sae_id,
            Sitting.feature == feature,
            Sitting.taker == caller.name,
            Sitting.score_id.is_not(None),
        )
    return exists().where(
        Explanation.sae_id == sae_id,
        Explanation.feature == feature,
        _written_by(caller) if mode == "write" else _voted_on_by(caller),
    )


def is_explained(caller: Caller, sae_id: Any, feature: Any) -> ColumnElement[bool]:
    """Condition on a feature: it has an explanation by somebody other than ``caller``."""
    return exists().where(
        Explanation.sae_id == sae_id, Explanation.feature == feature, not_(_written_by(caller))
    )


def _written_by(caller: Caller) -> ColumnElement[bool]:
    return and_(
        Explanation.explainer == HUMAN, Explanation.created_by.is_not_distinct_from(caller.key)
    )


def _voted_on_by(caller: Caller) -> ColumnElement[bool]:
    return exists().where(
        Vote.sae_id == Explanation.sae_id,
        Vote.explanation_id == Explanation.id,
        Vote.voter == caller.name,
    )


def entries(
    session: Session,
    list_id: uuid.UUID,
    conditions: Sequence[ColumnElement[bool]],
    after: int | None,
    limit: int,
) -> list[Any]:
    """Rows (sae_id, feature, position) of a list, in order, behind the position ``after``."""
    query = (
        select(ListEntry.sae_id, ListEntry.feature, ListEntry.position)
        .where(ListEntry.list_id == list_id, *conditions)
        .order_by(ListEntry.position)
        .limit(limit)
    )
    if after is not None:
        query = query.where(ListEntry.position > after)
    return list(session.execute(query))


def count_entries(
    session: Session, list_id: uuid.UUID, conditions: Sequence[ColumnElement[bool]]
) -> int:
    query = select(func.count()).where(ListEntry.list_id == list_id, *conditions)
    return int(session.scalar(query) or 0)


def done_among(
    session: Session, mode: LabellingMode, caller: Caller, places: Sequence[Place]
) -> set[Place]:
    """Those of ``places`` where ``caller`` has done it."""
    if mode == "judge":
        query = select(Sitting.sae_id, Sitting.feature).where(
            tuple_(Sitting.sae_id, Sitting.feature).in_(places),
            Sitting.taker == caller.name,
            Sitting.score_id.is_not(None),
        )
    else:
        query = select(Explanation.sae_id, Explanation.feature).where(
            tuple_(Explanation.sae_id, Explanation.feature).in_(places),
            _written_by(caller) if mode == "write" else _voted_on_by(caller),
        )
    return {(sae_id, feature) for sae_id, feature in session.execute(query.distinct())}


def best_explanations(
    session: Session, caller: Caller, places: Sequence[Place]
) -> dict[Place, uuid.UUID]:
    """Of each feature the best scored explanation, else the newest, by others than ``caller``."""
    query = (
        select(Explanation.sae_id, Explanation.feature, Explanation.id)
        .distinct(Explanation.sae_id, Explanation.feature)
        .outerjoin(Score, score_of(Explanation))
        .where(
            tuple_(Explanation.sae_id, Explanation.feature).in_(places), not_(_written_by(caller))
        )
        .order_by(
            Explanation.sae_id,
            Explanation.feature,
            Score.value.desc().nulls_last(),
            Explanation.created_at.desc(),
            Explanation.id,
        )
    )
    return {(sae_id, feature): id_ for sae_id, feature, id_ in session.execute(query)}
