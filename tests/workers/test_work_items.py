"""Features of a run as work that workers share: leases, fences, attempts."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text

from monosemy.specs import parse_spec
from service.database.session import transaction
from service.runs.lifecycle import create_run
from tests.support.library_rows import Library, add_explanation, add_library
from workers import work_items
from workers.work_items import ATTEMPTS, Item, ItemCounts

pytestmark = pytest.mark.integration


@pytest.fixture
def run_id(clean_engine: Engine) -> uuid.UUID:
    with transaction(clean_engine) as session:
        run = create_run(session, parse_spec({"kind": "explain", "sae": "x"})).id
        work_items.plan_features(session, run, range(10), {3, 4})
    return run


@pytest.fixture
def act(clean_engine: Engine) -> Callable[..., Any]:
    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        with transaction(clean_engine) as session:
            return function(session, *arguments)

    return call


def expire(engine: Engine, owner: str) -> None:
    with transaction(engine) as session:
        session.execute(
            text(
                "UPDATE work_items SET lease_expires_at = now() - interval '1 s'"
                " WHERE lease_owner = :owner"
            ),
            {"owner": owner},
        )


def features(items: list[Item]) -> list[int]:
    return [item.feature for item in items]


def test_nobody_gets_what_another_has(act: Any, run_id: uuid.UUID) -> None:
    first = act(work_items.claim, run_id, "a", 5, 60.0)
    second = act(work_items.claim, run_id, "b", 50, 60.0)
    assert features(first) == [0, 1, 2, 5, 6]  # 3 and 4 are done already
    assert features(second) == [7, 8, 9]
    assert act(work_items.claim, run_id, "c", 5, 60.0) == []
    counts = act(work_items.counts, run_id)
    assert counts == ItemCounts(leased=8, skipped=2)
    assert (counts.open, counts.ended) == (8, 2)


@pytest.mark.parametrize("planner", ["hashjoin", "mergejoin", "nestloop", "material"])
def test_a_claim_takes_no_more_than_asked_for_by_any_plan(
    clean_engine: Engine, run_id: uuid.UUID, planner: str
) -> None:
    """A nested loop may run a subquery of locked rows for each row, and lock others each time."""
    with transaction(clean_engine) as session:
        for kind in {"hashjoin", "mergejoin", "nestloop", "material", "hashagg", "sort"}:
            if kind != planner:
                session.execute(text(f"SET LOCAL enable_{kind} = off"))
        assert features(work_items.claim(session, run_id, "a", 2, 60.0)) == [0, 1]


def test_a_lost_lease_is_fenced_off(act: Any, clean_engine: Engine, run_id: uuid.UUID) -> None:
    act(work_items.claim, run_id, "slow", 1, 60.0)
    expire(clean_engine, "slow")
    assert features(act(work_items.claim, run_id, "quick", 1, 60.0)) == [0]
    assert not act(work_items.finish, run_id, 0, "slow")
    assert act(work_items.finish, run_id, 0, "quick")
    assert not act(work_items.finish, run_id, 0, "quick"), "ended once"
    assert act(work_items.counts, run_id).done == 1


def test_a_renewed_lease_is_kept(act: Any, clean_engine: Engine, run_id: uuid.UUID) -> None:
    act(work_items.claim, run_id, "a", 1, 60.0)
    expire(clean_engine, "a")
    assert act(work_items.renew, run_id, "a", 60.0) == "queued"
    assert features(act(work_items.claim, run_id, "b", 1, 60.0)) == [1]
    assert act(work_items.finish, run_id, 0, "a")


def test_a_feature_that_kills_its_workers_fails(
    act: Any, clean_engine: Engine, run_id: uuid.UUID
) -> None:
    for attempt in range(ATTEMPTS):
        [item] = act(work_items.claim, run_id, f"w{attempt}", 1, 60.0)
        assert item.feature == 0
        expire(clean_engine, f"w{attempt}")
    assert features(act(work_items.claim, run_id, "last", 1, 60.0)) == [1]
    assert act(work_items.failures, run_id) == {"0": f"its worker was lost {ATTEMPTS} times"}
    act(work_items.try_failed_again, run_id)
    assert features(act(work_items.claim, run_id, "again", 1, 60.0)) == [0]


def test_what_is_given_back_counts_no_attempt(
    act: Any, clean_engine: Engine, run_id: uuid.UUID
) -> None:
    for _ in range(2 * ATTEMPTS):
        assert features(act(work_items.claim, run_id, "a", 1, 60.0)) == [0]
        act(work_items.give_back, run_id, "a")
    assert act(work_items.counts, run_id).todo == 8


def test_planning_again_changes_nothing(act: Any, run_id: uuid.UUID) -> None:
    act(work_items.claim, run_id, "a", 1, 60.0)
    act(work_items.finish, run_id, 0, "a", "no answer \x00")
    act(work_items.plan_features, run_id, range(12), set())
    assert act(work_items.counts, run_id) == ItemCounts(todo=9, failed=1, skipped=2)


# -------------------------------------------------------------------- scores
@pytest.fixture
def library(clean_engine: Engine) -> Library:
    with transaction(clean_engine) as session:
        return add_library(session)


def planned(engine: Engine, run: uuid.UUID) -> dict[int, Any]:
    query = text(
        "SELECT feature, explanation_id, borrowed_id, state FROM work_items WHERE run_id=:r"
    )
    with transaction(engine) as session:
        return {row.feature: row for row in session.execute(query, {"r": run})}


def test_scores_are_planned_of_newest_chosen_or_one(
    act: Any, clean_engine: Engine, library: Library
) -> None:
    def explain(feature: int, key: str, days: int, value: float | None = None) -> uuid.UUID:
        with transaction(clean_engine) as session:
            made = add_explanation(session, library, feature, "l", "t", value, key=key)
            session.execute(
                text(
                    "UPDATE explanations SET created_at = now() - :d * interval '1 day' WHERE id=:i"
                ),
                {"d": days, "i": made},
            )
        return made

    old = explain(1, "old", 2)
    new = explain(1, "new", 1)
    scored = explain(2, "x", 1, 0.7)  # under the key "k"
    third = explain(3, "x", 1)

    def plan(*more: Any) -> dict[int, Any]:
        with transaction(clean_engine) as session:
            run = create_run(session, parse_spec({"kind": "score", "sae": "demo"})).id
            work_items.plan_scores(session, run, library.sae, "k", 0, *more)
        return planned(clean_engine, run)

    whole = plan()
    assert {f: row.explanation_id for f, row in whole.items()} == {1: new, 2: scored, 3: third}
    assert {f: row.state for f, row in whole.items()} == {1: "todo", 2: "skipped", 3: "todo"}
    # One cycle: everybody lends once, nobody to itself.
    assert {row.borrowed_id for row in whole.values()} == {new, scored, third}
    assert all(row.borrowed_id != row.explanation_id for row in whole.values())
    few = plan([3, 9])
    assert list(few) == [3, 9]
    assert few[9].state == "failed"
    assert few[3].borrowed_id == whole[3].borrowed_id, "from all, not from the chosen"
    one = plan(None, old)
    assert {f: row.explanation_id for f, row in one.items()} == {1: old}
