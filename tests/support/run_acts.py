"""What workers and people do to runs, each in a transaction of its own."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Engine, or_, select, text

from monosemy.specs import Part, parse_spec
from service.database.session import transaction
from service.database.tables import Run, RunEvent
from service.runs import lifecycle, repository

LEASE = 30.0


def submit(engine: Engine, spec: dict[str, Any] | Part, **options: Any) -> uuid.UUID:
    parsed = spec if isinstance(spec, Part) else parse_spec(spec)
    with transaction(engine) as session:
        return lifecycle.create_run(session, parsed, **options).id


def claim(engine: Engine, queue: str = "gpu", owner: str = "one", lease: float = LEASE) -> Any:
    with transaction(engine) as session:
        run = lifecycle.claim_run(session, queue, owner, lease)
        return None if run is None else run.id


def progress(engine: Engine, run: uuid.UUID, owner: str = "one", done: int = 0) -> None:
    with transaction(engine) as session:
        assert repository.record_progress(session, run, owner, {"stage": "train", "done": done})


def succeed(engine: Engine, run: uuid.UUID, owner: str = "one", **result: Any) -> set[str]:
    with transaction(engine) as session:
        return lifecycle.succeed_run(session, run, owner, result)


def fail(
    engine: Engine, run: uuid.UUID, owner: str = "one", error: str = "no", retryable: bool = False
) -> set[str]:
    with transaction(engine) as session:
        return lifecycle.fail_run(session, run, owner, error, retryable)


def release(engine: Engine, run: uuid.UUID, owner: str = "one") -> set[str]:
    with transaction(engine) as session:
        return lifecycle.release_run(session, run, owner)


def finish_cancel(engine: Engine, run: uuid.UUID, owner: str = "one") -> None:
    with transaction(engine) as session:
        lifecycle.finish_cancel(session, run, owner)


def cancel(engine: Engine, run: uuid.UUID) -> None:
    with transaction(engine) as session:
        lifecycle.cancel_run(session, session.get_one(Run, run))


def retry(engine: Engine, run: uuid.UUID) -> None:
    with transaction(engine) as session:
        lifecycle.retry_run(session, session.get_one(Run, run))


def expire(engine: Engine, run: uuid.UUID) -> None:
    """As if its worker, if it has one, had been silent for longer than its lease."""
    change(engine, run, "lease_expires_at = lease_expires_at - interval '1 day'")


def make_due(engine: Engine) -> None:
    """As if every pause after a failed attempt were over."""
    with transaction(engine) as session:
        session.execute(text("UPDATE runs SET not_before = now() - interval '1 second'"))


def change(engine: Engine, run: uuid.UUID, assignment: str) -> None:
    with transaction(engine) as session:
        session.execute(text(f"UPDATE runs SET {assignment} WHERE id = :id"), {"id": run})


def load(engine: Engine, run: uuid.UUID) -> Run:
    with transaction(engine) as session:
        return session.get_one(Run, run)


def children(engine: Engine, run: uuid.UUID) -> list[Run]:
    with transaction(engine) as session:
        query = select(Run).where(Run.parent_id == run).order_by(Run.position)
        return list(session.scalars(query))


def family(engine: Engine, parent: uuid.UUID) -> tuple[list[Run], dict[uuid.UUID, list[Any]]]:
    """A pipeline and its steps in order, and the state events of each."""
    with transaction(engine) as session:
        query = select(Run).where(or_(Run.id == parent, Run.parent_id == parent))
        runs = list(session.scalars(query.order_by(Run.position)))
        history: dict[uuid.UUID, list[Any]] = {run.id: [] for run in runs}
        changes = select(RunEvent).where(RunEvent.type == "state", RunEvent.run_id.in_(history))
        for event in session.scalars(changes.order_by(RunEvent.id)):
            history[event.run_id].append(event.data)
        return runs, history


def events(engine: Engine, run: uuid.UUID, type_: str) -> list[dict[str, Any]]:
    with transaction(engine) as session:
        query = select(RunEvent).where(RunEvent.run_id == run, RunEvent.type == type_)
        return [event.data for event in session.scalars(query.order_by(RunEvent.id))]


def delete_all(engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(text("DELETE FROM runs"))
