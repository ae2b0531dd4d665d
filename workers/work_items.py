"""Features of a run as work that several workers share (table ``work_items``)."""

from __future__ import annotations

import uuid
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from service.database.judge_tables import WorkItem
from service.database.storable import storable_text
from service.database.tables import Run, Sae

ATTEMPTS = 10
"""Workers that may be lost over one feature before it counts as failed.  A feature that kills its
worker takes all that are under way with it along: with few attempts those would fail too."""

_CHUNK = 5000


@dataclass(frozen=True)
class Item:
    """A feature to work on, with the explanations it concerns."""

    feature: int
    explanation_id: uuid.UUID | None = None
    borrowed_id: uuid.UUID | None = None


@dataclass(frozen=True)
class ItemCounts:
    """How many features of a run are in each state."""

    todo: int = 0
    leased: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def open(self) -> int:
        return self.todo + self.leased

    @property
    def ended(self) -> int:
        return self.done + self.failed + self.skipped


def plan_features(
    session: Session, run_id: uuid.UUID, features: Iterable[int], done: Container[int]
) -> None:
    """Adds what is not planned yet, features of ``done`` as skipped; in bounded memory."""
    for chunk in _chunks(features):
        rows = [
            {
                "run_id": run_id,
                "feature": feature,
                "state": "skipped" if feature in done else "todo",
            }
            for feature in chunk
        ]
        session.execute(upsert(WorkItem).on_conflict_do_nothing(), rows)


def plan_scores(
    session: Session,
    run_id: uuid.UUID,
    sae_id: uuid.UUID,
    key: str,
    seed: int,
    features: Sequence[int] | None = None,
    explanation: uuid.UUID | None = None,
) -> None:
    """Adds every explained feature, or those of ``features`` only, or the one of ``explanation``;
    as skipped where the newest explanation (or that one) has a score under ``key``.  What of
    ``features`` has nothing to score is added as failed.

    Each borrows the explanation of the next in one seeded cycle through all explained features,
    the scored ones included.  All of it happens in the database.
    """
    # What had no explanation when it was planned may have one by now.
    session.execute(
        delete(WorkItem).where(WorkItem.run_id == run_id, WorkItem.explanation_id.is_(None))
    )
    session.execute(
        text(
            """
            INSERT INTO work_items (run_id, feature, sae_id, explanation_id, borrowed_id, state)
            SELECT :run, feature, :sae, id, nullif(borrowed, id), CASE WHEN EXISTS (
                SELECT 1 FROM scores
                WHERE sae_id = :sae AND explanation_id = planned.id AND key = :key
            ) THEN 'skipped' ELSE 'todo' END FROM (
                SELECT feature, id,
                       coalesce(lead(id) OVER cycle, first_value(id) OVER cycle) AS borrowed
                FROM (
                    SELECT DISTINCT ON (feature) feature, id FROM explanations
                    WHERE sae_id = :sae
                    ORDER BY feature, (id IS NOT DISTINCT FROM CAST(:only AS uuid)) DESC,
                             created_at DESC, id
                ) AS newest
                WINDOW cycle AS (ORDER BY md5(feature || ':' || :seed), feature)
            ) AS planned
            WHERE (CAST(:features AS int[]) IS NULL OR feature = ANY(CAST(:features AS int[])))
              AND (CAST(:only AS uuid) IS NULL OR id = CAST(:only AS uuid))
            ON CONFLICT DO NOTHING
            """
        ),
        {
            "run": run_id,
            "sae": sae_id,
            "key": key,
            "seed": str(seed),
            "features": None if features is None else list(features),
            "only": explanation,
        },
    )
    for chunk in _chunks(sorted(set(features or ()))):
        _plan_unscorable(session, run_id, sae_id, chunk, explanation)


def _plan_unscorable(
    session: Session,
    run_id: uuid.UUID,
    sae_id: uuid.UUID,
    features: Sequence[int],
    explanation: uuid.UUID | None,
) -> None:
    """Adds those of ``features`` that are not planned as failed, each with the reason."""
    planned = select(WorkItem.feature).where(
        WorkItem.run_id == run_id, WorkItem.feature.in_(features)
    )
    missing = sorted(set(features) - set(session.scalars(planned)))
    if not missing:
        return
    d_sae = session.scalar(select(Sae.d_sae).where(Sae.id == sae_id)) or 0
    without = (
        "It has no explanation to score."
        if explanation is None
        else f"The explanation {explanation} is not of this feature, or has been deleted."
    )
    rows = [
        {
            "run_id": run_id,
            "feature": feature,
            "state": "failed",
            "error": without
            if feature < d_sae
            else f"There is no feature {feature}: the SAE has 0 to {d_sae - 1}.",
        }
        for feature in missing
    ]
    session.execute(upsert(WorkItem).on_conflict_do_nothing(), rows)


def try_failed_again(session: Session, run_id: uuid.UUID) -> None:
    """A run that somebody asks to retry takes up what had failed."""
    session.execute(
        update(WorkItem)
        .where(WorkItem.run_id == run_id, WorkItem.state == "failed")
        .values(state="todo", attempts=0, error=None)
    )


def claim(
    session: Session, run_id: uuid.UUID, owner: str, count: int, lease_seconds: float
) -> list[Item]:
    """Leases up to ``count`` features to ``owner``: free ones, or those of lost workers."""
    lost = (WorkItem.state == "leased") & (WorkItem.lease_expires_at < func.now())
    session.execute(
        update(WorkItem)
        .where(WorkItem.run_id == run_id, lost, WorkItem.attempts >= ATTEMPTS)
        .values(state="failed", error=f"its worker was lost {ATTEMPTS} times", lease_owner=None)
    )
    # A CTE, since a subquery may be run once for each row of a join: each time it skips what it
    # has locked before and finds ``count`` more.
    chosen = (
        select(WorkItem.feature)
        .where(WorkItem.run_id == run_id, (WorkItem.state == "todo") | lost)
        .order_by(WorkItem.feature)
        .limit(count)
        .with_for_update(skip_locked=True)
        .cte("chosen")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    rows = session.execute(
        update(WorkItem)
        .where(WorkItem.run_id == run_id, WorkItem.feature.in_(select(chosen.c.feature)))
        .values(
            state="leased",
            attempts=WorkItem.attempts + 1,
            lease_owner=owner,
            lease_expires_at=_after(lease_seconds),
        )
        .returning(WorkItem.feature, WorkItem.explanation_id, WorkItem.borrowed_id)
        .execution_options(synchronize_session=False)
    )
    return sorted((Item(*row) for row in rows), key=lambda item: item.feature)


def renew(session: Session, run_id: uuid.UUID, owner: str, lease_seconds: float) -> str | None:
    """Renews the leases of ``owner``; returns the state that the run is in."""
    session.execute(
        update(WorkItem)
        .where(WorkItem.run_id == run_id, WorkItem.lease_owner == owner)
        .where(WorkItem.state == "leased")
        .values(lease_expires_at=_after(lease_seconds))
    )
    return session.scalar(select(Run.state).where(Run.id == run_id))


def finish(
    session: Session, run_id: uuid.UUID, feature: int, owner: str, error: str | None = None
) -> bool:
    """Ends the work on a feature; False if it is not ``owner``'s any more."""
    ended = session.execute(
        update(WorkItem)
        .where(WorkItem.run_id == run_id, WorkItem.feature == feature)
        .where(WorkItem.state == "leased", WorkItem.lease_owner == owner)
        .values(
            state="done" if error is None else "failed",
            error=None if error is None else storable_text(error),
            lease_owner=None,
            lease_expires_at=None,
        )
    )
    return bool(ended.rowcount)  # type: ignore[attr-defined]


def give_back(session: Session, run_id: uuid.UUID, owner: str, feature: int | None = None) -> None:
    """Frees one feature, or all that ``owner`` has not ended; it does not count as an attempt."""
    change = (
        update(WorkItem)
        .where(WorkItem.run_id == run_id, WorkItem.lease_owner == owner)
        .where(WorkItem.state == "leased")
    )
    if feature is not None:
        change = change.where(WorkItem.feature == feature)
    session.execute(
        change.values(
            state="todo",
            attempts=WorkItem.attempts - 1,
            lease_owner=None,
            lease_expires_at=None,
        )
    )


def counts(session: Session, run_id: uuid.UUID) -> ItemCounts:
    """How many features are in each state."""
    query = (
        select(WorkItem.state, func.count())
        .where(WorkItem.run_id == run_id)
        .group_by(WorkItem.state)
    )
    return ItemCounts(**dict(session.execute(query).tuples().all()))


def failures(session: Session, run_id: uuid.UUID, limit: int = 100) -> dict[str, str]:
    """Reasons by feature, of the first ``limit`` failed ones."""
    query = (
        select(WorkItem.feature, WorkItem.error)
        .where(WorkItem.run_id == run_id, WorkItem.state == "failed")
        .order_by(WorkItem.feature)
        .limit(limit)
    )
    return {str(feature): error or "" for feature, error in session.execute(query)}


def run_with_open_items(session: Session, queue: str) -> Run | None:
    """A run under way on ``queue`` with free features, the oldest."""
    free = select(WorkItem.run_id).where(
        (WorkItem.state == "todo")
        | ((WorkItem.state == "leased") & (WorkItem.lease_expires_at < func.now()))
    )
    query = (
        select(Run)
        .where(Run.queue == queue, Run.state == "running", Run.id.in_(free))
        .order_by(Run.created_at)
        .limit(1)
    )
    return session.scalars(query).first()


def _after(seconds: float) -> Any:
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _chunks(features: Iterable[int]) -> Iterator[list[int]]:
    remaining = iter(features)
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk
