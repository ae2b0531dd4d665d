"""Rows that nobody needs: old events, texts that no SAE is indexed over, sessions that ended."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, delete, func, select, tuple_
from sqlalchemy.orm import Session

from monosemy.specs.run_states import ENDED
from service.database.session import transaction
from service.database.tables import Context, Document, Run, RunEvent, Sae
from service.retention.references import hold_runs
from service.sessions import repository as sessions

_AT_ONCE = 10_000
_FORGETTABLE = ("progress", "log")
"""Changes of state stay: the rules of retries count them.  Stages are few."""


def old_events(engine: Engine, age: float, remove: bool) -> int:
    """Progress and log lines of runs that ended ``age`` seconds ago or earlier: how many there
    are, or were."""
    ended = select(Run.id).where(
        Run.state.in_(ENDED),
        Run.finished_at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, age),
    )
    old = (RunEvent.type.in_(_FORGETTABLE), RunEvent.run_id.in_(ended))
    if not remove:
        with transaction(engine) as session:
            return int(session.scalar(select(func.count()).select_from(RunEvent).where(*old)) or 0)
    removed = 0
    while True:
        with transaction(engine) as session:
            some = select(RunEvent.id).where(*old).order_by(RunEvent.id).limit(_AT_ONCE)
            number = _removed(session, delete(RunEvent).where(RunEvent.id.in_(some)))
        removed += number
        if number < _AT_ONCE:
            return removed


def orphaned_texts(engine: Engine, remove: bool) -> tuple[int, int]:
    """(contexts, documents) of texts that no SAE is indexed over; none while a run that has not
    ended might need them."""
    counts = []
    for table in (Context, Document):
        key = (table.text_id, table.row if table is Context else table.document)  # type: ignore[attr-defined]
        counts.append(_orphaned(engine, table, key, remove))
    return counts[0], counts[1]


def ended_sessions(engine: Engine, remove: bool) -> int:
    """Sessions of browsers that have ended: how many there are, or were."""
    with transaction(engine) as session:
        return sessions.remove_ended(session) if remove else sessions.count_ended(session)


def _orphaned(engine: Engine, table: Any, key: Any, remove: bool) -> int:
    used = select(Sae.index["text_id"].astext).where(Sae.index["text_id"].astext.is_not(None))
    orphaned = table.text_id.not_in(used)
    removed = 0
    while True:
        with transaction(engine) as session:
            if remove:
                hold_runs(session)
            waits = select(Run.id).where(Run.state.not_in(ENDED)).limit(1)
            if session.scalar(waits) is not None:
                return removed
            if not remove:
                query = select(func.count()).select_from(table).where(orphaned)
                return int(session.scalar(query) or 0)
            some = select(*key).where(orphaned).limit(_AT_ONCE)
            number = _removed(session, delete(table).where(tuple_(*key).in_(some)))
        removed += number
        if number < _AT_ONCE:
            return removed


def _removed(session: Session, statement: Any) -> int:
    result: Any = session.execute(statement.execution_options(synchronize_session=False))
    return int(result.rowcount)
