"""All SQL on queues; nothing here commits."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from monosemy.specs.run_states import ACTIVE, HELD
from service.database.key_tables import ApiKey
from service.database.tables import Queue, Run

_CLAIMS = 0x6D6E7379
"""Names the lock under which limited claims are made, one after the other."""


def find_queue(session: Session, name: str) -> Queue | None:
    return session.get(Queue, name, populate_existing=True)


def change_queue(session: Session, name: str, **values: Any) -> Queue:
    """The queue with these columns set."""
    values |= {"changed_at": func.now()}
    statement = insert(Queue).values(name=name, **values)
    session.execute(statement.on_conflict_do_update(constraint="pk_queues", set_=values))
    return session.get_one(Queue, name, populate_existing=True)


def counts(session: Session) -> Sequence[Any]:
    """(queue, state, runs) of the runs that workers take and that have not ended."""
    return session.execute(
        select(Run.queue, Run.state, func.count())
        .where(Run.queue != "none", Run.state.in_(ACTIVE))
        .group_by(Run.queue, Run.state)
    ).all()


def under_way(session: Session, queue: str) -> int:
    """How many runs of the queue workers hold."""
    query = select(func.count()).where(Run.queue == queue, Run.state.in_(HELD))
    return int(session.scalar(query) or 0)


def keys_are_limited(session: Session) -> bool:
    """Whether any API key may have so many runs under way and no more."""
    query = select(ApiKey.id).where(ApiKey.max_running.is_not(None)).limit(1)
    return session.scalar(query) is not None


def lock_claims(session: Session) -> None:
    """Until the transaction ends, nobody else claims under a limit: counts stay true."""
    session.execute(select(func.pg_advisory_xact_lock(_CLAIMS)))


def key_of_run_is_full(session: Session, run: uuid.UUID) -> bool:
    """Whether the API key that submitted ``run`` has as many runs under way as it may."""
    return session.scalar(select(Run.id).where(Run.id == run, of_a_full_key())) is not None


def of_a_full_key() -> Any:
    """Condition on ``Run``: its API key has as many runs under way as it may."""
    other = Run.__table__.alias("of_the_same_key")
    busy = (
        select(func.count())
        .select_from(other)
        .where(
            other.c.created_by == Run.created_by,
            other.c.queue != "none",
            other.c.state.in_(HELD),
        )
        .correlate(Run)
        .scalar_subquery()
    )
    return (
        select(ApiKey.id)
        .where(and_(ApiKey.id == Run.created_by, ApiKey.max_running <= busy))
        .correlate(Run)
        .exists()
    )
