"""Counts for the metrics page."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Numeric, cast, func, select
from sqlalchemy.orm import aliased

from service.database.tables import Explanation, Feature, Run, Sae, Score


@dataclass(frozen=True)
class WorkCounts:
    runs: list[tuple[str, str, str, int]]
    """queue, kind, state, number."""
    oldest_queued: list[tuple[str, float]]
    """queue, seconds since the oldest startable run could have started."""
    saes: int
    features: int
    explanations: int
    scores: int


def count_work(connection: Connection) -> WorkCounts:
    by_state = select(Run.queue, Run.kind, Run.state, func.count()).group_by(
        Run.queue, Run.kind, Run.state
    )
    before = aliased(Run)
    # A child became startable when the run that it waits for ended.
    since = func.greatest(Run.not_before, func.coalesce(before.finished_at, Run.created_at))
    waiting = (
        select(Run.queue, cast(func.extract("epoch", func.max(func.now() - since)), Numeric))
        .outerjoin(before, before.id == Run.depends_on)
        .where(
            Run.state == "queued",
            Run.not_before <= func.now(),
            Run.depends_on.is_(None) | (before.state == "succeeded"),
        )
        .group_by(Run.queue)
    )
    totals = select(
        *(
            select(func.count()).select_from(table).scalar_subquery()
            for table in (Sae, Feature, Explanation, Score)
        )
    )
    saes, features, explanations, scores = connection.execute(totals).one()
    return WorkCounts(
        runs=[(queue, kind, state, n) for queue, kind, state, n in connection.execute(by_state)],
        oldest_queued=[(queue, float(age)) for queue, age in connection.execute(waiting)],
        saes=saes,
        features=features,
        explanations=explanations,
        scores=scores,
    )
