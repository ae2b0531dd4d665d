"""The life of a run: which state may follow which, and what else must happen then.

Every change of state goes through ``_move``, which checks ``ALLOWED`` and appends an event.
Workers name themselves as ``owner``; one that has lost its lease can change nothing any more.
"""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from monosemy.errors import ConflictError, SpecError
from monosemy.specs import KINDS, PENDING_SAE, RunSpec, parse_stored_spec, queue_of
from monosemy.specs.references import SaeReference, references, replaced
from monosemy.specs.run import NO_QUEUE
from monosemy.specs.run_states import ACTIVE, ENDED, HELD, RETRYABLE
from service.database.storable import storable, storable_text
from service.database.tables import Run
from service.runs import attempts, repository

ALLOWED: dict[str, frozenset[str]] = {
    "queued": frozenset({"running", "cancelled", "failed"}),
    "running": frozenset({"running", "queued", "cancelling", "succeeded", "failed", "cancelled"}),
    "cancelling": ENDED,
    "succeeded": frozenset(),
    "failed": frozenset({"queued"}),
    "cancelled": frozenset({"queued"}),
}
"""Running to running is a takeover; running to queued an interruption or a failed attempt."""

MAX_ATTEMPTS = 3
LOST_LEADERS = 20
"""Of kinds whose features are shared out: a lost leader costs nothing but the time to find another.
"""
LOST_WORKERS = 10
"""After so many losses in a row without progress the run itself counts as their cause."""
_BACKOFF_SECONDS = (5.0, 30.0, 120.0)


class LostLease(Exception):
    """The worker does not hold the run (any more); it must drop it and write nothing."""


def create_run(
    session: Session,
    spec: RunSpec,
    max_attempts: int = MAX_ATTEMPTS,
    created_by: uuid.UUID | None = None,
    priority: int = 0,
) -> Run:
    """Stores a run, a pipeline with its children; the caller wakes the queues after the commit.

    ``created_by`` is the id of an API key; a higher ``priority`` goes first.
    """
    add = partial(
        _add, session, max_attempts=max_attempts, created_by=created_by, priority=priority
    )
    parent = add(spec)
    children: list[Run] = []
    for position, step in enumerate(spec.steps(), 1):
        before = None if step.after is None else children[step.after].id
        children.append(add(step.spec, parent_id=parent.id, position=position, depends_on=before))
    return parent


def claim_run(session: Session, queue: str, owner: str, lease_seconds: float) -> Run | None:
    """Gives the first claimable run of ``queue`` to ``owner``, or None when there is none: that of
    the highest priority, of those the oldest, unless the queue is paused or full.

    A run whose worker was lost is taken over; one that lost all its attempts fails here, one that
    was being cancelled is cancelled here.
    """
    while (run := repository.next_claimable(session, queue)) is not None:
        if run.parent_id is not None and not repository.try_lock(session, run.parent_id):
            return None  # somebody is changing the pipeline: look again in a moment
        if run.state == "cancelling":
            _end(session, run, "cancelled", error="cancelled; its worker was lost")
            continue
        takeover = run.state == "running"
        lost = attempts.lost_in_vain(session, run) if takeover else 0
        if lost >= (LOST_LEADERS if _is_shared(run) else LOST_WORKERS):
            reason = f"its worker was lost {lost} times, and it got no further"
            _end(session, run, "failed", error=reason)
            continue
        run.attempt += 1
        if run.started_at is None:
            repository.stamp(run, "started_at")
        repository.set_lease(run, owner, lease_seconds)
        # How far the lost worker had come shows at a later loss whether it made progress.
        told_of = {"takeover": True, "reached": attempts.reached(run)} if takeover else {}
        _move(session, run, "running", attempt=run.attempt, **told_of)
        if run.parent_id is not None:
            _settle_parent(session, run.parent_id)
        session.flush()
        session.refresh(run)
        return run
    return None


def succeed_run(
    session: Session, run_id: uuid.UUID, owner: str, result: dict[str, Any]
) -> set[str]:
    """Ends a run as succeeded and gives its SAE to the runs that wait for it.

    Returns the queues to wake.
    """
    run = _held(session, run_id, owner)
    run.result = storable(result)
    _end(session, run, "succeeded")
    return _hand_on(session, run)


def fail_run(
    session: Session, run_id: uuid.UUID, owner: str, error: str, retryable: bool
) -> set[str]:
    """Ends an attempt as failed.

    The run is queued again after a while if ``retryable`` and attempts are left.
    """
    run = _held(session, run_id, owner)
    error = storable_text(error)
    failed = attempts.failures(session, run) + 1
    if retryable and run.state == "running" and failed < run.max_attempts:
        delay = _BACKOFF_SECONDS[min(failed, len(_BACKOFF_SECONDS)) - 1]
        run.error = error
        repository.postpone(run, delay)
        repository.clear_lease(run)
        _move(session, run, "queued", error=error, retry_in_seconds=delay)
        return set()
    _end(session, run, "failed", error=error)
    return set()


def release_run(session: Session, run_id: uuid.UUID, owner: str) -> set[str]:
    """Gives a run back unfinished, its attempt not counted: the worker has to stop."""
    run = _held(session, run_id, owner)
    if run.state == "cancelling":
        _end(session, run, "cancelled", error="cancelled")
        return set()
    run.attempt -= 1
    repository.stamp(run, "not_before")
    repository.clear_lease(run)
    _move(session, run, "queued", interrupted=True)
    return {run.queue}


def finish_cancel(session: Session, run_id: uuid.UUID, owner: str) -> None:
    """The worker has stopped and kept the checkpoint."""
    _end(session, _held(session, run_id, owner), "cancelled", error="cancelled")


def cancel_run(session: Session, run: Run) -> None:
    """Cancels a run, a pipeline with all its steps; ``ConflictError`` if it has ended."""
    run = _locked(session, run.id)
    if run.state in ENDED:
        raise ConflictError(f"The run has {run.state} already; there is nothing to cancel.")
    if run.queue == NO_QUEUE:
        for child in repository.children_of(session, run.id):
            if child.state not in ENDED:
                _cancel_one(session, child)
        _settle_parent(session, run.id)
        if run.state == "running":
            _move(session, run, "cancelling")
    else:
        _cancel_one(session, run)


def prioritise_run(session: Session, run: Run, priority: int) -> None:
    """Puts a run that has not ended before or behind others, a pipeline with all its steps;
    ``ConflictError`` if it has ended."""
    run = _locked(session, run.id)
    if run.state in ENDED:
        raise ConflictError(f"The run has {run.state} already; there is nothing to put first.")
    run.priority = priority
    for child in repository.children_of(session, run.id):
        child.priority = priority
    session.flush()


def retry_run(session: Session, run: Run) -> None:
    """Queues a failed or cancelled run again, a pipeline's steps from where it stopped.

    A step of a pipeline takes the steps after it along.  ``ConflictError`` in any other state.
    """
    run = _locked(session, run.id)
    if run.state not in RETRYABLE:
        raise ConflictError(f"The run is {run.state}; only failed and cancelled runs are retried.")
    parent = run if run.queue == NO_QUEUE else session.get(Run, run.parent_id or run.id)
    if parent is not None and parent.queue == NO_QUEUE:
        for child in repository.children_of(session, parent.id):
            if child.state in RETRYABLE:
                _requeue(session, child)
        if parent.state in RETRYABLE:
            _requeue(session, parent)
    else:
        _requeue(session, run)


def _add(session: Session, spec: RunSpec, **columns: Any) -> Run:
    run = repository.add_run(
        session,
        kind=spec.kind,
        queue=queue_of(spec),
        state="queued",
        spec=spec.model_dump(mode="json"),
        **columns,
    )
    repository.add_event(session, run.id, "state", {"state": "queued", "kind": spec.kind})
    return run


def _move(session: Session, run: Run, state: str, **data: Any) -> None:
    if state not in ALLOWED[run.state]:
        raise ConflictError(f"A run that is {run.state} cannot become {state}.")
    repository.add_event(
        session, run.id, "state", {"state": state, "from": run.state, "kind": run.kind, **data}
    )
    run.state = state
    session.flush()


def _end(session: Session, run: Run, state: str, error: str | None = None) -> None:
    """Ends one run, and with it what cannot go on without it."""
    run.error = error
    repository.clear_lease(run)
    repository.stamp(run, "finished_at")
    _move(session, run, state, **({"error": error} if error else {}))
    if run.parent_id is None:
        return
    if state != "succeeded":
        reason = f"not started: the {run.kind} step {state}"
        lost = {run.id}
        for sibling in repository.children_of(session, run.parent_id):
            if sibling.depends_on not in lost:
                continue
            lost.add(sibling.id)
            if sibling.state == "queued":
                sibling.error = reason
                repository.stamp(sibling, "finished_at")
                _move(session, sibling, "cancelled", error=reason)
    _settle_parent(session, run.parent_id)


def _settle_parent(session: Session, parent_id: uuid.UUID) -> None:
    """Lets a pipeline's state follow from its children's."""
    parent = session.get(Run, parent_id, with_for_update=True, populate_existing=True)
    if parent is None or parent.state in ENDED:
        return
    children = repository.children_of(session, parent_id)
    states = {child.state for child in children}
    parent.result = _merged_result(children)
    parent.progress = _steps_done(children)
    active = states & ACTIVE
    if not active:
        failed = next((child for child in children if child.state == "failed"), None)
        end = "failed" if failed else "cancelled" if "cancelled" in states else "succeeded"
        parent.error = f"{failed.kind}: {failed.error}" if failed else None
        repository.stamp(parent, "finished_at")
        if parent.state == "queued" and end == "succeeded":
            _move(session, parent, "running")
        _move(session, parent, end, **({"error": parent.error} if parent.error else {}))
    elif parent.state == "queued" and states - {"queued"}:
        repository.stamp(parent, "started_at")
        _move(session, parent, "running")


def _merged_result(children: Any) -> dict[str, Any]:
    """``sae_id`` of the pipeline, and every finished step's own result under its kind; those of
    which there may be several (score runs) in a list."""
    merged: dict[str, Any] = {}
    for child in children:
        if child.result:
            kind = KINDS.get(child.kind)
            if kind is not None and kind.listed_as is not None:
                merged.setdefault(kind.listed_as, []).append(child.result)
            else:
                merged[child.kind] = child.result
            if child.result.get("sae_id"):
                merged.setdefault("sae_id", child.result["sae_id"])
    return merged


def _steps_done(children: Any) -> dict[str, Any]:
    """A pipeline's progress, in the form of a stage's: the step under way, steps done of all."""
    under_way = next((child for child in children if child.state not in ENDED), children[-1])
    return {
        "stage": under_way.kind,
        "unit": "steps",
        "done": sum(child.state == "succeeded" for child in children),
        "total": len(children),
        "rate": 0.0,
        "eta_seconds": None,
        "elapsed_seconds": None,
        "metrics": {},
    }


def _hand_on(session: Session, run: Run) -> set[str]:
    """Puts the trained SAE into the specs that wait for it; the queues of what may start now."""
    if run.parent_id is None:
        return set()
    siblings = repository.children_of(session, run.parent_id)
    sae_id = (run.result or {}).get("sae_id")
    for sibling in siblings:
        if sae_id:
            sibling.spec = _with_sae(sibling.spec, str(sae_id))
    session.flush()
    return {s.queue for s in siblings if s.depends_on == run.id and s.state == "queued"}


def _with_sae(data: dict[str, Any], sae_id: str) -> dict[str, Any]:
    """A stored spec that names ``sae_id`` wherever it named the SAE that was to come."""
    try:
        spec = parse_stored_spec(data)
    except SpecError:
        return data  # the worker that takes it says what is wrong with it
    for reference, _ in references(spec, SaeReference):
        if reference.value == PENDING_SAE:
            data = replaced(data, reference.path, sae_id)
    return data


def _is_shared(run: Run) -> bool:
    kind = KINDS.get(run.kind)
    return kind is not None and kind.shared


def _cancel_one(session: Session, run: Run) -> None:
    if run.state == "running":
        _move(session, run, "cancelling")
    elif run.state == "queued":
        _end(session, run, "cancelled", error="cancelled before it started")


def _requeue(session: Session, run: Run) -> None:
    run.attempt = 0
    run.error = None
    run.finished_at = None
    repository.stamp(run, "not_before")
    _move(session, run, "queued", retried=True)


def _held(session: Session, run_id: uuid.UUID, owner: str) -> Run:
    run = repository.lock_run(session, run_id)
    if run is None or run.lease_owner != owner or run.state not in HELD:
        raise LostLease
    return run


def _locked(session: Session, run_id: uuid.UUID) -> Run:
    run = repository.lock_run(session, run_id)
    if run is None:
        raise ConflictError("The run does not exist any more.")
    return run
