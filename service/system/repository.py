"""Counts for the metrics page."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Float, Numeric, cast, func, select
from sqlalchemy.orm import aliased

from monosemy.specs.run_states import HELD
from service.database.judge_tables import Spend
from service.database.tables import Explanation, Feature, Run, Sae, Score

RUN_SECONDS = (10, 30, 60, 300, 900, 3600, 14_400, 86_400)
"""Bounds of the histogram of how long runs take."""


@dataclass(frozen=True)
class Duration:
    """How long runs of one kind that ended in one state took, from their first start."""

    kind: str
    state: str
    at_most: list[int]
    """How many took at most each of ``RUN_SECONDS``."""
    count: int
    seconds: float
    """Of all of them together."""


@dataclass(frozen=True)
class WorkCounts:
    runs: list[tuple[str, str, str, int]]
    """queue, kind, state, number."""
    oldest_queued: list[tuple[str, float]]
    """queue, seconds since the oldest startable run could have started."""
    durations: list[Duration]
    rates: list[tuple[str, str, str, float]]
    """kind, stage, unit, units a second, summed over the runs under way."""
    leases: list[tuple[str, int, int]]
    """queue, runs whose worker is alive, runs whose worker has not been heard of in time."""
    judge: dict[str, float]
    """Sums over all runs: calls, tokens by kind, cost, and what may still be owed."""
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
        durations=_durations(connection),
        rates=_rates(connection),
        leases=_leases(connection),
        judge=_judge(connection),
        saes=saes,
        features=features,
        explanations=explanations,
        scores=scores,
    )


def _durations(connection: Connection) -> list[Duration]:
    seconds = func.extract("epoch", Run.finished_at - Run.started_at)
    bounds = [func.count().filter(seconds <= bound) for bound in RUN_SECONDS]
    query = (
        select(Run.kind, Run.state, func.count(), cast(func.sum(seconds), Float), *bounds)
        .where(Run.finished_at.is_not(None), Run.started_at.is_not(None))
        .group_by(Run.kind, Run.state)
    )
    return [
        Duration(row[0], row[1], [int(n) for n in row[4:]], row[2], float(row[3]))
        for row in connection.execute(query)
    ]


def _rates(connection: Connection) -> list[tuple[str, str, str, float]]:
    stage, unit = Run.progress["stage"].astext, Run.progress["unit"].astext
    rate = func.sum(Run.progress["rate"].astext.cast(Float))
    query = (
        select(Run.kind, stage, unit, rate)
        .where(Run.state.in_(HELD), Run.queue != "none", Run.progress.has_key("rate"))
        .group_by(Run.kind, stage, unit)
    )
    return [(kind, str(a), str(b), float(r or 0)) for kind, a, b, r in connection.execute(query)]


def _leases(connection: Connection) -> list[tuple[str, int, int]]:
    held = func.count().filter(Run.lease_expires_at >= func.now())
    lost = func.count().filter(Run.lease_expires_at < func.now())
    query = select(Run.queue, held, lost).where(Run.state.in_(HELD)).group_by(Run.queue)
    return [(queue, a, b) for queue, a, b in connection.execute(query) if queue != "none"]


def _judge(connection: Connection) -> dict[str, float]:
    names = ("calls", "prompt_tokens", "cached_tokens", "completion_tokens", "cost", "reserved")
    query = select(*(func.coalesce(func.sum(getattr(Spend, name)), 0) for name in names))
    return {
        name: float(value)
        for name, value in zip(names, connection.execute(query).one(), strict=True)
    }
