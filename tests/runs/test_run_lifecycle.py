"""Claims, leases, attempts, pipelines: what may become of a run."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from monosemy.errors import ConflictError
from monosemy.specs import PENDING_SAE
from service.database.session import transaction
from service.database.tables import Run
from service.runs import attempts, repository
from service.runs.lifecycle import LOST_WORKERS, LostLease
from tests.support import run_acts as acts
from tests.support.patience import SOON

pytestmark = pytest.mark.integration

TRAIN = {"kind": "train"}
PIPELINE = {"kind": "pipeline", "name": "made"}
KINDS = ["train", "index", "evaluate", "explain", "score"]


@pytest.fixture(autouse=True)
def no_runs(engine: Engine) -> None:
    acts.delete_all(engine)


def states(engine: Engine, parent: uuid.UUID) -> list[str]:
    return [child.state for child in acts.children(engine, parent)]


def test_two_workers_never_get_one_run(engine: Engine) -> None:
    """Eight threads snatch at thirty runs: each run goes to exactly one, none is left."""
    runs = {acts.submit(engine, TRAIN) for _ in range(30)}
    taken: list[tuple[uuid.UUID, str]] = []
    start = threading.Barrier(8)

    def snatch(owner: str) -> None:
        start.wait()
        misses = 0
        while misses < 3:  # a miss may be another's lock; the runs are there
            run = acts.claim(engine, owner=owner)
            misses = misses + 1 if run is None else 0
            if run is not None:
                taken.append((run, owner))

    threads = [threading.Thread(target=snatch, args=(f"worker {n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 30
    assert {run for run, _ in taken} == runs
    for run, owner in taken:
        assert acts.load(engine, run).lease_owner == owner


def test_the_oldest_run_of_the_queue_is_first(engine: Engine) -> None:
    first, second = acts.submit(engine, TRAIN), acts.submit(engine, TRAIN)
    acts.change(engine, second, "created_at = now() - interval '1 hour'")
    assert acts.claim(engine, "interp") is None
    assert [acts.claim(engine), acts.claim(engine), acts.claim(engine)] == [second, first, None]


def test_a_claim_that_is_not_committed_blocks_nobody(engine: Engine) -> None:
    first, second = acts.submit(engine, TRAIN), acts.submit(engine, TRAIN)
    with transaction(engine) as session:
        held = repository.next_claimable(session, "gpu")
        assert held is not None and held.id == first
        began = time.monotonic()
        assert acts.claim(engine) == second
        assert time.monotonic() - began < SOON
        session.rollback()
    assert acts.claim(engine) == first


def test_a_silent_worker_loses_its_run(engine: Engine) -> None:
    run = acts.submit(engine, TRAIN)
    assert acts.claim(engine, owner="one") == run
    assert acts.claim(engine, owner="two") is None
    acts.expire(engine, run)
    assert acts.claim(engine, owner="two") == run
    taken = acts.load(engine, run)
    assert (taken.attempt, taken.lease_owner, taken.state) == (2, "two", "running")
    assert acts.events(engine, run, "state")[-1]["takeover"] is True
    for late in (acts.succeed, acts.fail, acts.release, acts.finish_cancel):
        with pytest.raises(LostLease):
            late(engine, run, "one")
    assert acts.load(engine, run).lease_owner == "two"
    acts.succeed(engine, run, "two", sae_id="x")
    assert acts.load(engine, run).state == "succeeded"


def test_a_lease_lasts_as_long_as_it_is_renewed(engine: Engine) -> None:
    run = acts.submit(engine, TRAIN)
    acts.claim(engine, owner="one", lease=1.0)
    for _ in range(3):
        time.sleep(0.5)
        with transaction(engine) as session:
            assert repository.renew_lease(session, run, "one", 1.0) == "running"
            assert repository.renew_lease(session, run, "two", 60.0) is None
    assert acts.claim(engine, owner="two") is None  # 1.5 s on: only the renewals kept it
    time.sleep(1.1)
    assert acts.claim(engine, owner="two") == run
    with transaction(engine) as session:
        assert repository.renew_lease(session, run, "one", 60.0) is None


def test_a_run_that_kills_its_workers_fails(engine: Engine) -> None:
    run = acts.submit(engine, TRAIN)
    for number in range(LOST_WORKERS):
        assert acts.claim(engine, owner=str(number)) == run
        acts.expire(engine, run)
    assert acts.claim(engine, owner="one more") is None
    ended = acts.load(engine, run)
    assert ended.state == "failed" and f"lost {LOST_WORKERS} times" in str(ended.error)
    assert ended.lease_owner is None and ended.finished_at is not None


def test_a_run_that_gets_further_may_lose_any_number_of_workers(engine: Engine) -> None:
    run = acts.submit(engine, TRAIN)
    for number in range(2 * LOST_WORKERS):
        owner = f"worker {number}"
        assert acts.claim(engine, owner=owner) == run
        acts.progress(engine, run, owner, done=100 * (number + 1))
        acts.expire(engine, run)
    for number in range(LOST_WORKERS - 1):
        assert acts.claim(engine, owner=str(number)) == run
        acts.progress(engine, run, str(number), done=50)  # no further than those before
        acts.expire(engine, run)
    assert acts.claim(engine) is None
    ended = acts.load(engine, run)
    assert ended.state == "failed" and ended.attempt == 3 * LOST_WORKERS - 1
    acts.retry(engine, run)
    assert acts.claim(engine, owner="a new beginning") == run


def test_lost_workers_are_no_failures(engine: Engine) -> None:
    """An error after many lost workers is still the first one, and tried again."""
    run = acts.submit(engine, TRAIN)
    for number in range(5):
        acts.claim(engine, owner=str(number))
        acts.progress(engine, run, str(number), done=number + 1)
        acts.expire(engine, run)
    assert acts.claim(engine) == run
    acts.fail(engine, run, error="passing", retryable=True)
    again = acts.load(engine, run)
    assert (again.state, again.attempt) == ("queued", 6)
    assert acts.events(engine, run, "state")[-1]["retry_in_seconds"] == 5.0


@pytest.mark.parametrize(
    ("marks", "in_vain"),
    [
        ([[0, 0]], 1),
        ([[0, 3], [0, 5], [0, 4], [0, 5]], 3),
        ([[0, 9], [1, 0]], 1),
        ([[1, 0], [0, 9], [1, 1]], 1),
    ],
)
def test_how_often_in_vain(marks: list[list[int]], in_vain: int) -> None:
    assert attempts._in_vain(marks) == in_vain


def test_failed_attempts_wait_longer_each_time(engine: Engine) -> None:
    run = acts.submit(engine, TRAIN)
    waits = []
    for attempt in (1, 2):
        acts.make_due(engine)
        assert acts.claim(engine) == run
        acts.fail(engine, run, error=f"fault {attempt}", retryable=True)
        again = acts.load(engine, run)
        assert (again.state, again.error, again.attempt) == ("queued", f"fault {attempt}", attempt)
        assert acts.claim(engine) is None  # not yet
        waits.append(acts.events(engine, run, "state")[-1]["retry_in_seconds"])
    assert waits[0] < waits[1]
    acts.make_due(engine)
    assert acts.claim(engine) == run
    acts.fail(engine, run, error="fault 3", retryable=True)
    assert acts.load(engine, run).state == "failed"
    acts.make_due(engine)
    assert acts.claim(engine) is None


def test_an_interruption_counts_as_no_attempt(engine: Engine) -> None:
    run = acts.submit(engine, TRAIN)
    for _ in range(5):  # more often than attempts are allowed
        assert acts.claim(engine) == run
        assert acts.release(engine, run) == {"gpu"}
    assert acts.load(engine, run).attempt == 0


def test_a_pipeline_goes_step_by_step(engine: Engine) -> None:
    parent = acts.submit(engine, PIPELINE)
    assert acts.load(engine, parent).queue == "none"
    assert [child.kind for child in acts.children(engine, parent)] == KINDS
    woken = []
    for done, kind in enumerate(KINDS):
        queue = "gpu" if kind in ("train", "evaluate", "index") else "interp"
        run = acts.claim(engine, queue)
        assert run is not None and acts.load(engine, run).kind == kind
        assert acts.claim(engine, queue) is None  # the next one waits for this one
        pipeline = acts.load(engine, parent)
        assert pipeline.state == "running" and pipeline.started_at is not None
        assert (pipeline.progress["stage"], pipeline.progress["done"]) == (kind, done)
        assert pipeline.progress["total"] == 5
        result = {"sae_id": "abc"} if kind == "train" else {"figure": kind}
        woken.append(acts.succeed(engine, run, **result))
    assert woken == [{"gpu"}, {"gpu", "interp"}, set(), {"interp"}, set()]
    pipeline = acts.load(engine, parent)
    assert pipeline.state == "succeeded" and pipeline.finished_at is not None
    assert pipeline.result is not None and pipeline.result["sae_id"] == "abc"
    assert pipeline.result["index"] == {"figure": "index"}
    assert pipeline.progress["done"] == 5


def test_a_trained_sae_takes_the_place_held_for_it(engine: Engine) -> None:
    parent = acts.submit(engine, PIPELINE)
    assert {child.spec["sae"] for child in acts.children(engine, parent)[1:]} == {PENDING_SAE}
    train = acts.claim(engine)
    sae = str(uuid.uuid4())
    acts.succeed(engine, train, sae_id=sae)
    steps = acts.children(engine, parent)
    assert {child.spec["sae"] for child in steps[1:]} == {sae}
    assert isinstance(steps[0].spec["sae"], dict)  # the training's own part is left alone


def test_a_failed_step_ends_the_pipeline_and_a_retry_goes_on_from_there(engine: Engine) -> None:
    parent = acts.submit(engine, PIPELINE)
    acts.succeed(engine, acts.claim(engine), sae_id="abc")
    acts.fail(engine, acts.claim(engine), error="the disk is full")
    assert states(engine, parent) == ["succeeded", "failed", *["cancelled"] * 3]
    assert "index step failed" in str(acts.children(engine, parent)[3].error)
    pipeline = acts.load(engine, parent)
    assert (pipeline.state, pipeline.error) == ("failed", "index: the disk is full")
    assert pipeline.result is not None and pipeline.result["sae_id"] == "abc"

    acts.retry(engine, parent)
    assert states(engine, parent) == ["succeeded", *["queued"] * 4]
    assert acts.load(engine, parent).error is None
    run = acts.claim(engine)
    assert acts.load(engine, run).kind == "index"
    acts.succeed(engine, run)
    for queue in ("gpu", "interp", "interp"):
        acts.succeed(engine, acts.claim(engine, queue))
    assert acts.load(engine, parent).state == "succeeded"


def test_host_model_and_judge_work_side_by_side(engine: Engine) -> None:
    parent = acts.submit(engine, PIPELINE)
    for _ in range(2):
        acts.succeed(engine, acts.claim(engine), sae_id="abc")
    evaluate, explain = acts.claim(engine), acts.claim(engine, "interp")
    assert states(engine, parent) == ["succeeded", "succeeded", "running", "running", "queued"]
    # A failure takes along what waits for it, and nothing else.
    acts.fail(engine, explain, error="no judge")
    assert states(engine, parent)[2:] == ["running", "failed", "cancelled"]
    assert acts.load(engine, parent).state == "running"
    acts.succeed(engine, evaluate)
    assert acts.load(engine, parent).error == "explain: no judge"


def test_retrying_a_step_takes_its_pipeline_along(engine: Engine) -> None:
    parent = acts.submit(engine, PIPELINE)
    train = acts.claim(engine)
    acts.fail(engine, train)
    acts.retry(engine, train)
    assert states(engine, parent) == ["queued"] * 5
    assert acts.load(engine, parent).state == "queued"


def test_cancelling_before_anything_has_started(engine: Engine) -> None:
    run, parent = acts.submit(engine, TRAIN), acts.submit(engine, PIPELINE)
    for each in (run, parent):
        acts.cancel(engine, each)
        assert acts.load(engine, each).state == "cancelled"
    assert set(states(engine, parent)) == {"cancelled"}
    assert acts.claim(engine) is None


def test_cancelling_a_pipeline_under_way(engine: Engine) -> None:
    parent = acts.submit(engine, PIPELINE)
    train = acts.claim(engine)
    acts.cancel(engine, parent)
    assert states(engine, parent) == ["cancelling"] + ["cancelled"] * 4
    assert acts.load(engine, parent).state == "cancelling"
    with transaction(engine) as session:  # so the worker learns of it
        assert repository.renew_lease(session, train, "one", 30.0) == "cancelling"
    acts.finish_cancel(engine, train)
    assert acts.load(engine, parent).state == "cancelled"
    acts.retry(engine, parent)
    assert states(engine, parent) == ["queued"] * 5
    assert acts.claim(engine) == train


def test_a_step_that_ends_before_it_notices_the_cancelling(engine: Engine) -> None:
    parent = acts.submit(engine, PIPELINE)
    train = acts.claim(engine)
    acts.cancel(engine, parent)
    assert acts.succeed(engine, train, sae_id="abc") == set()
    assert acts.load(engine, train).state == "succeeded"
    assert acts.load(engine, parent).state == "cancelled"


@pytest.mark.parametrize("end", [acts.release, acts.expire])
def test_cancelled_though_its_worker_has_gone(
    engine: Engine, end: Callable[[Engine, uuid.UUID], object]
) -> None:
    run = acts.submit(engine, TRAIN)
    acts.claim(engine)
    acts.cancel(engine, run)
    end(engine, run)
    assert acts.claim(engine, owner="two") is None
    assert acts.load(engine, run).state == "cancelled"


def test_what_cannot_be_cancelled_or_retried(engine: Engine) -> None:
    run = acts.submit(engine, TRAIN)
    with pytest.raises(ConflictError, match="queued"):
        acts.retry(engine, run)
    acts.claim(engine)
    acts.succeed(engine, run)
    for act in (acts.retry, acts.cancel):
        with pytest.raises(ConflictError, match="succeeded"):
            act(engine, run)


def test_only_the_owner_reports(engine: Engine) -> None:
    run = acts.submit(engine, TRAIN)
    acts.claim(engine, owner="one")
    with transaction(engine) as session:
        for owner, held in (("one", True), ("two", False)):
            progress = {"stage": "train", "done": 5, "by": owner}
            assert repository.record_progress(session, run, owner, progress) is held
            assert repository.record_stage(session, run, owner, progress) is held
            assert repository.record_log(session, run, owner, progress) is held
    stored = acts.load(engine, run)
    assert stored.progress["by"] == "one"
    assert [stage["by"] for stage in stored.stages] == ["one"]
    for type_ in ("progress", "stage", "log"):
        assert [event["by"] for event in acts.events(engine, run, type_)] == ["one"]


def test_stages_are_kept_in_order_and_replaced_by_a_later_attempt(engine: Engine) -> None:
    run = acts.submit(engine, TRAIN)
    acts.claim(engine)
    for name, done in (("fill", 1), ("train", 2), ("fill", 3)):
        with transaction(engine) as session:
            repository.record_stage(session, run, "one", {"stage": name, "done": done})
    stored = acts.load(engine, run).stages
    assert stored == [{"stage": "train", "done": 2}, {"stage": "fill", "done": 3}]


def test_a_stage_that_has_ended_is_the_latest_progress(engine: Engine) -> None:
    """Of a short stage only its beginning was written as progress: at most one a second is."""
    run = acts.submit(engine, TRAIN)
    acts.claim(engine)
    acts.progress(engine, run, done=0)
    with transaction(engine) as session:
        repository.record_stage(session, run, "one", {"stage": "train", "done": 7, "total": 7})
    acts.succeed(engine, run)
    assert acts.load(engine, run).progress == {"stage": "train", "done": 7, "total": 7}


def test_what_an_ended_stage_did_is_no_progress_of_the_next(engine: Engine) -> None:
    run = acts.submit(engine, TRAIN)
    acts.claim(engine)
    with transaction(engine) as session:
        repository.record_stage(session, run, "one", {"stage": "fill", "done": 9000})
    assert attempts.reached(acts.load(engine, run)) == [1, 0]
    acts.progress(engine, run, done=3)
    assert attempts.reached(acts.load(engine, run)) == [1, 3]


def test_values_that_jsonb_refuses_are_stored_all_the_same(engine: Engine) -> None:
    run = acts.submit(engine, TRAIN)
    acts.claim(engine)
    with transaction(engine) as session:
        repository.record_progress(session, run, "one", {"loss": math.nan, "stage": "a\x00b"})
    acts.succeed(engine, run, fvu=math.inf, label="half \ud83d", literal="\\u0000", n=1)
    stored = acts.load(engine, run)
    assert stored.progress == {"loss": None, "stage": "a\ufffdb"}
    assert stored.result == {"fvu": None, "label": "half \ufffd", "literal": "\\u0000", "n": 1}


def test_leases_run_by_the_clock_of_the_database(engine: Engine) -> None:
    """A worker whose clock is wrong holds its run as long as any other."""
    run = acts.submit(engine, TRAIN)
    with transaction(engine) as session:
        session.execute(text("SELECT pg_sleep(0.3)"))  # now() stands still in a transaction
        session.get_one(Run, run)
        assert acts.claim(engine, lease=10.0) == run
    with transaction(engine) as session:
        left = "SELECT extract(epoch FROM lease_expires_at - clock_timestamp()) FROM runs"
        assert 9.0 < float(session.execute(text(left)).scalar_one()) <= 10.0
