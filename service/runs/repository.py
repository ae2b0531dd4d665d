"""All SQL that changes runs.  Times are the database's; nothing here commits."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, and_, exists, func, or_, select, tuple_, update
from sqlalchemy.orm import Session, aliased

from monosemy.specs.run_states import HELD
from service.database.storable import storable
from service.database.tables import Queue, Run, RunEvent
from service.queues import repository as queues


def add_run(session: Session, **columns: Any) -> Run:
    run = Run(**columns)
    session.add(run)
    session.flush()
    return run


def add_event(session: Session, run_id: uuid.UUID, type_: str, data: dict[str, Any]) -> None:
    session.add(RunEvent(run_id=run_id, type=type_, data=storable(data)))


def lock_run(session: Session, run_id: uuid.UUID) -> Run | None:
    """The run, locked until the transaction ends and read anew.

    A pipeline is locked before its children, everywhere, so that two transactions never wait for
    each other in a circle.  Whoever updates a child twice in one transaction must lock its pipeline
    too: the second update checks the foreign key anew, and waits for the pipeline's row.
    """
    parent = session.scalar(select(Run.parent_id).where(Run.id == run_id))
    for identity in (parent, run_id):
        if identity is not None:
            run = session.get(Run, identity, with_for_update=True, populate_existing=True)
    return run


def try_lock(session: Session, run_id: uuid.UUID) -> bool:
    """Locks a run unless somebody else has it locked; never waits."""
    query = select(Run.id).where(Run.id == run_id).with_for_update(skip_locked=True)
    return session.scalar(query) is not None


def children_of(session: Session, parent_id: uuid.UUID) -> Sequence[Run]:
    """In order, locked."""
    return session.scalars(
        select(Run)
        .where(Run.parent_id == parent_id)
        .order_by(Run.position)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()


def _ready() -> Any:
    """Queued, due, and what it depends on has succeeded."""
    before = aliased(Run)
    waiting = exists().where(before.id == Run.depends_on, before.state != "succeeded")
    return and_(Run.state == "queued", Run.not_before <= func.now(), ~waiting)


def _lost() -> Any:
    """Held by a worker that has not renewed its lease in time."""
    return and_(Run.state.in_(HELD), Run.lease_expires_at < func.now())


def anything_waits(session: Session, queue: str) -> bool:
    """Whether a run of ``queue`` could be taken this moment."""
    return session.scalar(_claimable(session, queue).with_only_columns(Run.id)) is not None


def next_claimable(session: Session, queue: str) -> Run | None:
    """The run of ``queue`` that a worker may take next, locked; others skip it meanwhile."""
    query = _claimable(session, queue, claiming=True)
    return session.scalars(query.with_for_update(skip_locked=True)).first()


def _claimable(session: Session, queue: str, claiming: bool = False) -> Select[Any]:
    """The first run that may be taken.  Under limits whoever is ``claiming`` is alone in it."""
    control = queues.find_queue(session, queue)
    limited = control is not None and control.max_running is not None
    keys_limited = queues.keys_are_limited(session)
    if claiming and (limited or keys_limited):
        queues.lock_claims(session)
    ready = _ready()
    if keys_limited:
        ready = and_(ready, ~queues.of_a_full_key())
    # What a dead worker held counts already, and what was being cancelled has only to end.
    condition = or_(ready, _lost())
    if control is not None and control.paused:
        condition = and_(_lost(), Run.state == "cancelling")
    elif control is not None and is_full(session, control):
        condition = _lost()
    return (
        select(Run)
        .where(Run.queue == queue, condition)
        .order_by(Run.priority.desc(), Run.created_at, Run.position, Run.id)
        .limit(1)
    )


def count_ahead(session: Session, run: Run) -> int:
    """Runs of its queue that could start now and go before ``run``."""
    first = or_(
        Run.priority > run.priority,
        and_(
            Run.priority == run.priority,
            tuple_(Run.created_at, Run.position, Run.id)
            < tuple_(run.created_at, run.position, run.id),
        ),
    )
    query = select(func.count()).where(Run.queue == run.queue, _ready(), first)
    return int(session.scalar(query) or 0)


def is_due(session: Session, run: Run) -> bool:
    """Whether the time before which it must not start has come."""
    return bool(session.scalar(select(Run.not_before <= func.now()).where(Run.id == run.id)))


def waits_for_a_run(session: Session, run: Run) -> bool:
    """Whether one that must succeed before it has not."""
    if run.depends_on is None:
        return False
    return session.scalar(select(Run.state).where(Run.id == run.depends_on)) != "succeeded"


def is_full(session: Session, control: Queue) -> bool:
    """Whether as many runs of the queue are under way as there may be."""
    limit = control.max_running
    return limit is not None and queues.under_way(session, control.name) >= limit


def set_lease(run: Run, owner: str, seconds: float) -> None:
    run.lease_owner = owner
    run.lease_expires_at = _in(seconds)


def clear_lease(run: Run) -> None:
    run.lease_owner = None
    run.lease_expires_at = None


def renew_lease(session: Session, run_id: uuid.UUID, owner: str, seconds: float) -> str | None:
    """The run's state if ``owner`` still holds it, else None."""
    return session.execute(
        update(Run)
        .where(
            Run.id == run_id,
            Run.lease_owner == owner,
            Run.state.in_(HELD),
        )
        .values(lease_expires_at=_in(seconds))
        .returning(Run.state)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()


def is_held(session: Session, run_id: uuid.UUID, owner: str) -> bool:
    """Whether ``owner`` still has the run; if so nobody else gets it until the transaction ends."""
    conditions = (Run.id == run_id, Run.lease_owner == owner, Run.state.in_(HELD))
    return session.scalar(select(Run.id).where(*conditions).with_for_update()) is not None


def postpone(run: Run, seconds: float) -> None:
    run.not_before = _in(seconds)


def stamp(run: Run, column: str) -> None:
    setattr(run, column, func.now())


def record_progress(
    session: Session, run_id: uuid.UUID, owner: str, progress: dict[str, Any]
) -> bool:
    """Latest progress of a held run; False if ``owner`` does not hold it any more."""
    done = session.execute(
        update(Run)
        .where(Run.id == run_id, Run.lease_owner == owner)
        .values(progress=storable(progress))
        .returning(Run.id)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()
    if done is None:
        return False
    add_event(session, run_id, "progress", progress)
    return True


def record_stage(session: Session, run_id: uuid.UUID, owner: str, stage: dict[str, Any]) -> bool:
    """A finished stage, appended; one of the same name (an earlier attempt's) is replaced.  It is
    the latest progress too, which was written at most once a second."""
    run = session.get(Run, run_id, with_for_update=True, populate_existing=True)
    if run is None or run.lease_owner != owner:
        return False
    others = [old for old in run.stages if old.get("stage") != stage["stage"]]
    run.stages = [*others, storable(stage)]
    run.progress = storable(stage)
    add_event(session, run_id, "stage", stage)
    return True


def record_log(session: Session, run_id: uuid.UUID, owner: str, data: dict[str, Any]) -> bool:
    """A line worth keeping about a held run."""
    query = select(Run.id).where(Run.id == run_id, Run.lease_owner == owner)
    if session.scalar(query) is None:
        return False
    add_event(session, run_id, "log", data)
    return True


def _in(seconds: float) -> Any:
    """The database's clock, so many seconds on."""
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
