"""Whatever happens in whatever order, runs keep to the transition table."""

from __future__ import annotations

import uuid
from contextlib import suppress
from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from monosemy.errors import ConflictError
from monosemy.specs.run_states import ACTIVE, ENDED, HELD, RETRYABLE, RunState
from service.database.tables import Run
from service.runs.lifecycle import ALLOWED, LOST_LEADERS, LostLease
from tests.support import run_acts as acts

STATES = set(get_args(RunState))
OWNERS = ("one", "two")

ACTS = st.one_of(
    st.tuples(st.just("work"), st.sampled_from(("gpu", "interp")), st.sampled_from(OWNERS)),
    st.tuples(st.just("claim"), st.sampled_from(("gpu", "interp")), st.sampled_from(OWNERS)),
    st.tuples(
        st.sampled_from(("succeed", "fail", "try again", "release", "finish cancel", "expire")),
        st.integers(-8, 5),  # below zero: the step under way
        st.sampled_from(OWNERS),
    ),
    st.tuples(st.sampled_from(("cancel", "retry")), st.integers(0, 5), st.just("")),
)


def test_the_sets_of_states_are_of_all_of_them() -> None:
    assert ACTIVE | ENDED == STATES and not ACTIVE & ENDED
    assert HELD < ACTIVE and {s for s in ENDED if "queued" in ALLOWED[s]} == RETRYABLE


def test_the_table_speaks_of_every_state() -> None:
    assert set(ALLOWED) == STATES
    assert set().union(*ALLOWED.values()) <= STATES
    assert not ALLOWED["succeeded"]  # what has succeeded stays so
    for state in STATES - ENDED:
        assert ALLOWED[state] & ENDED, f"nothing ends a run that is {state}"


@pytest.mark.integration
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(ACTS, min_size=25, max_size=50))
def test_any_sequence_keeps_the_rules(engine: Engine, sequence: list[Any]) -> None:
    acts.delete_all(engine)
    parent = acts.submit(engine, {"kind": "pipeline"}, max_attempts=2)
    runs = [parent, *(child.id for child in acts.children(engine, parent))]
    for act, target, owner in sequence:
        acts.make_due(engine)
        with suppress(LostLease, ConflictError):
            _do(engine, act, target, owner, runs)
        _check(*acts.family(engine, parent))


def _do(engine: Engine, act: str, target: str | int, owner: str, runs: list[uuid.UUID]) -> None:
    if act in ("claim", "work"):
        run = acts.claim(engine, str(target), owner)
        if run is not None and act == "work":
            acts.succeed(engine, run, owner, sae_id="abc")
        return
    run = runs[max(int(target), 0)]
    if int(target) < 0:
        for step in acts.children(engine, runs[0]):
            if step.lease_owner:
                run, owner = step.id, step.lease_owner
    if act == "succeed":
        acts.succeed(engine, run, owner, sae_id="abc")
    elif act in ("fail", "try again"):
        acts.fail(engine, run, owner, retryable=act == "try again")
    elif act == "release":
        acts.release(engine, run, owner)
    elif act == "finish cancel":
        acts.finish_cancel(engine, run, owner)
    elif act == "expire":
        acts.expire(engine, run)
    elif act == "cancel":
        acts.cancel(engine, run)
    else:
        acts.retry(engine, run)


def _check(runs: list[Run], history: dict[uuid.UUID, list[Any]]) -> None:
    for run in runs:
        _check_history(run, history[run.id])
        _check_columns(run)
        _check_attempts(run, history[run.id])
    parent, steps = runs[0], runs[1:]
    assert (parent.state in ENDED) == all(step.state in ENDED for step in steps)
    assert (parent.state == "succeeded") == all(step.state == "succeeded" for step in steps)
    if any(step.state == "failed" for step in steps) and parent.state in ENDED:
        assert parent.state == "failed"
    state_of = {step.id: step.state for step in steps}
    for step in steps:
        # A step runs, or has run, only on what the one that it waits for has made.
        if step.depends_on and step.state in ("running", "cancelling", "succeeded", "failed"):
            assert state_of[step.depends_on] == "succeeded"
    if steps[0].state == "succeeded":
        assert {step.spec["sae"] for step in steps[1:]} == {"abc"}


def _check_history(run: Run, history: list[Any]) -> None:
    assert history[0] == {"state": "queued", "kind": run.kind}
    for before, event in pairwise(history):
        assert event["from"] == before["state"], "a change left no event"
        assert event["state"] in ALLOWED[event["from"]]
    assert run.state == history[-1]["state"]


def _check_columns(run: Run) -> None:
    assert (run.finished_at is not None) == (run.state in ENDED)
    if run.kind == "pipeline":
        assert run.lease_owner is None
    else:
        assert (run.lease_owner is not None) == (run.state in ("running", "cancelling"))
        assert (run.lease_owner is None) == (run.lease_expires_at is None)
    if run.state in ("failed", "cancelled") and run.kind != "pipeline":
        assert run.error


def _check_attempts(run: Run, history: list[Any]) -> None:
    """Every attempt but the last ended in an error that counts, or in the loss of its worker."""
    since = max((at for at, event in enumerate(history) if event.get("retried")), default=0)
    errors = sum(event["state"] == "queued" and "error" in event for event in history[since:])
    losses = sum("takeover" in event for event in history[since:])
    assert errors < run.max_attempts
    assert 0 <= run.attempt <= errors + losses + 1
    assert losses < LOST_LEADERS
