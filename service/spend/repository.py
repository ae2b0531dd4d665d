"""Sums over the ledger of calls to judges."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import ColumnElement, Select, String, cast, func, null, select
from sqlalchemy.orm import Session

from monosemy.specs.rest.spend import Grouping
from service.database.judge_tables import JudgeCall
from service.database.key_tables import ApiKey
from service.database.tables import Run

MOST_ROWS = 1000

_GROUPS: dict[Grouping, tuple[ColumnElement[Any], ColumnElement[Any]]] = {
    "run": (cast(JudgeCall.run_id, String), func.max(Run.kind)),
    "feature": (cast(JudgeCall.feature, String), null()),
    "purpose": (JudgeCall.purpose.expression, null()),
    "model": (JudgeCall.model.expression, null()),
    "key": (cast(Run.created_by, String), func.max(ApiKey.name)),
    "day": (func.to_char(func.timezone("UTC", JudgeCall.sent_at), "YYYY-MM-DD"), null()),
}
"""What rows have in common, and what to call it."""


def spend(
    session: Session,
    by: Grouping,
    run: uuid.UUID | None,
    sae: tuple[uuid.UUID, str] | None,
    since: dt.datetime | None,
) -> tuple[list[Any], Any]:
    """(rows, total), the dearest groups first; ``run`` may be a pipeline, ``sae`` is (id, name)."""
    group, name = _GROUPS[by]
    rows = _summed(group, name).group_by(group).order_by(func.sum(JudgeCall.cost).desc(), group)
    total = _summed(null(), null())
    conditions: list[ColumnElement[bool]] = []
    if run is not None:
        conditions.append((Run.id == run) | (Run.parent_id == run))
    if sae is not None:
        conditions.append(Run.spec["sae"].astext.in_([str(sae[0]), sae[1]]))
    if since is not None:
        conditions.append(JudgeCall.sent_at >= since)
    selected = session.execute(rows.where(*conditions).limit(MOST_ROWS)).all()
    return list(selected), session.execute(total.where(*conditions)).one()


def _summed(group: ColumnElement[Any], name: ColumnElement[Any]) -> Select[Any]:
    def total(column: Any) -> ColumnElement[Any]:
        return func.coalesce(func.sum(column), 0)

    return (
        select(
            group.label("group"),
            name.label("name"),
            func.count(JudgeCall.id).label("calls"),
            func.count().filter(JudgeCall.state == "answered").label("answered"),
            func.count().filter(JudgeCall.state == "failed").label("failed"),
            func.count().filter(JudgeCall.state == "sent").label("unknown"),
            total(JudgeCall.prompt_tokens).label("prompt_tokens"),
            total(JudgeCall.cached_tokens).label("cached_tokens"),
            total(JudgeCall.completion_tokens).label("completion_tokens"),
            total(JudgeCall.cost).label("cost"),
        )
        .select_from(JudgeCall)
        .outerjoin(Run, Run.id == JudgeCall.run_id)
        .outerjoin(ApiKey, ApiKey.id == Run.created_by)
    )
