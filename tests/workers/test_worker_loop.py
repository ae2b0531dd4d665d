"""The worker's loop around made-up work, on a real database and a real Valkey."""

from __future__ import annotations

import errno
import math
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import Engine, text

from monosemy.errors import DataError, Interrupted
from service.database.session import make_engine
from service.database.tables import Run
from service.runs.wake import wake
from service.settings import Settings
from tests.support import run_acts as acts
from tests.support.patience import SOON, wait_for
from tests.support.worker_thread import working
from workers.reporter import RunReporter

pytestmark = pytest.mark.integration

TRAIN = {"kind": "train"}


@pytest.fixture
def engine(clean_engine: Engine) -> Engine:
    return clean_engine


class Endless:
    """Work without an end, a step every hundredth of a second."""

    def __init__(self) -> None:
        self.began: list[uuid.UUID] = []
        self.stopped_by: list[str] = []

    def __call__(self, run: Run, reporter: RunReporter) -> dict[str, Any]:
        self.began.append(run.id)
        try:
            with reporter.stage("work", unit="steps") as stage:
                while True:
                    time.sleep(0.01)
                    stage.advance()
        except Exception as error:
            self.stopped_by.append(type(error).__name__)
            raise


def quick(run: Run, reporter: RunReporter) -> dict[str, Any]:
    with reporter.stage("work", total=3, unit="steps") as stage:
        for _ in range(3):
            stage.advance(loss=math.nan)
    return {"sae_id": "abc", "loss": math.nan}


def ended(engine: Engine, run: uuid.UUID) -> Run | None:
    loaded = acts.load(engine, run)
    return loaded if loaded.state in ("succeeded", "failed", "cancelled") else None


def test_a_message_ends_the_pause_at_once(engine: Engine, settings: Settings) -> None:
    patient = settings.model_copy(update={"poll_seconds": 60.0})
    with working(engine, patient, quick):
        time.sleep(1.0)  # the first look is over
        run = acts.submit(engine, TRAIN)
        time.sleep(0.5)
        assert acts.load(engine, run).state == "queued"
        assert wake(settings.redis_url, "gpu")
        done = wait_for(lambda: ended(engine, run), seconds=10)
    assert done.state == "succeeded"
    assert done.result == {"sae_id": "abc", "loss": None}
    assert [stage["done"] for stage in done.stages] == [3]


@pytest.mark.parametrize("url", ["nobody", None])
def test_without_redis_runs_are_found_by_looking(
    engine: Engine, settings: Settings, tmp_path: Path, url: str | None
) -> None:
    address = url and f"unix://{tmp_path}/{url}.sock"
    alone = settings.model_copy(update={"redis_url": address})
    with working(engine, alone, quick):
        run = acts.submit(engine, {"kind": "pipeline"})
        wait_for(lambda: acts.children(engine, run)[2].state == "succeeded")


def test_a_flushed_redis_loses_nothing(engine: Engine, settings: Settings) -> None:
    client = redis.Redis.from_url(str(settings.redis_url))
    hold = threading.Event()

    def execute(run: Run, reporter: RunReporter) -> dict[str, Any]:
        hold.wait(10)
        return {"sae_id": "abc"}

    with working(engine, settings, execute):
        runs = [acts.submit(engine, TRAIN) for _ in range(3)]
        wake(settings.redis_url, "gpu")
        wait_for(lambda: acts.load(engine, runs[0]).state == "running")
        client.flushall()
        client.script_flush()
        hold.set()
        for run in runs:
            assert wait_for(lambda run=run: ended(engine, run)).state == "succeeded"
        # And the worker still hears what is announced after the flush.
        patient = acts.submit(engine, TRAIN)
        assert wake(settings.redis_url, "gpu")
        wait_for(lambda: ended(engine, patient))


def test_a_database_that_drops_its_connections_costs_nothing(
    engine: Engine, settings: Settings
) -> None:
    """Connections are cut at the claim, during the work and at its end."""
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    done = threading.Event()

    def cutting() -> None:
        # An engine of its own: the others' connections are the ones to be cut.
        own = make_engine(settings.database_url)
        while not done.wait(0.15):
            with own.connect() as connection:
                connection.execute(text(cut))
        own.dispose()

    def execute(run: Run, reporter: RunReporter) -> dict[str, Any]:
        with reporter.stage("work", total=100, unit="steps") as stage:
            for _ in range(100):
                time.sleep(0.02)
                stage.advance()
        return {"sae_id": "abc"}

    runs = [acts.submit(engine, TRAIN) for _ in range(2)]
    cutter = threading.Thread(target=cutting)
    cutter.start()
    theirs = make_engine(settings.database_url)
    try:
        with working(theirs, settings, execute):
            time.sleep(3)
            done.set()
            cutter.join()
            for run in runs:
                ended_run = wait_for(lambda run=run: ended(engine, run))
                assert (ended_run.state, ended_run.attempt) == ("succeeded", 1)
    finally:
        done.set()
        cutter.join()
        theirs.dispose()


def test_stopping_gives_the_run_back(engine: Engine, settings: Settings) -> None:
    endless, run = Endless(), acts.submit(engine, TRAIN)
    with working(engine, settings, endless) as worker:
        wait_for(lambda: endless.began)
        began = time.monotonic()
        worker.stop()
    assert time.monotonic() - began < SOON
    assert endless.stopped_by == ["Interrupted"]
    back = acts.load(engine, run)
    assert (back.state, back.attempt, back.lease_owner) == ("queued", 0, None)


def test_a_cancelled_run_stops_within_seconds(engine: Engine, settings: Settings) -> None:
    endless, run = Endless(), acts.submit(engine, TRAIN)
    with working(engine, settings, endless):
        wait_for(lambda: endless.began)
        acts.cancel(engine, run)
        assert wait_for(lambda: ended(engine, run), seconds=5).state == "cancelled"
        assert endless.stopped_by == ["Cancelled"]
        # The worker goes on to the next.
        other = acts.submit(engine, TRAIN)
        wait_for(lambda: endless.began == [run, other])


def test_a_worker_that_lost_its_lease_drops_the_run(engine: Engine, settings: Settings) -> None:
    endless, run = Endless(), acts.submit(engine, TRAIN)
    with working(engine, settings, endless):
        wait_for(lambda: endless.began)
        acts.expire(engine, run)
        acts.change(engine, run, "lease_owner = 'another', lease_expires_at = now() + '1 hour'")
        wait_for(lambda: endless.stopped_by, seconds=5)
        time.sleep(0.3)
    assert endless.stopped_by == ["Interrupted"]
    theirs = acts.load(engine, run)
    assert (theirs.state, theirs.lease_owner, theirs.attempt) == ("running", "another", 1)


def test_long_work_keeps_its_lease(engine: Engine, settings: Settings) -> None:
    """Three leases long, without one look at the reporter: the thread renews by itself."""
    short = settings.model_copy(update={"lease_seconds": 0.6})

    def execute(run: Run, reporter: RunReporter) -> dict[str, Any]:
        time.sleep(1.8)
        return {}

    run = acts.submit(engine, TRAIN)
    with working(engine, short, execute):
        wait_for(lambda: acts.load(engine, run).state == "running")
        while acts.load(engine, run).state == "running":
            assert acts.claim(engine, owner="thief") is None
            time.sleep(0.05)
    assert acts.load(engine, run).state == "succeeded"
    assert acts.load(engine, run).attempt == 1


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [
        (DataError("The text is empty.", "Name another."), "failed", "The text is empty. Name"),
        (RuntimeError("surprise"), "queued", "RuntimeError: surprise at test_worker_loop.py"),
        (MemoryError(), "failed", "Out of memory (MemoryError). Use a smaller sae.d_sae"),
        (RuntimeError("CUDA out of memory. Tried"), "failed", "Out of memory"),
        (OSError(errno.ENOSPC, "No space left"), "failed", "No space is left on the disk"),
        (SystemExit(3), "queued", "SystemExit"),
    ],
)
def test_errors_end_the_attempt_and_not_the_worker(
    engine: Engine, settings: Settings, error: BaseException, state: str, words: str
) -> None:
    faults = [error]

    def execute(run: Run, reporter: RunReporter) -> dict[str, Any]:
        if faults:
            raise faults.pop()
        return {}

    run = acts.submit(engine, TRAIN)
    with working(engine, settings, execute):
        failed = wait_for(lambda: (r := acts.load(engine, run)).error and r)
        assert failed.state == state
        assert words in str(failed.error)
        after = acts.submit(engine, TRAIN)
        wait_for(lambda: ended(engine, after))
        if state == "queued":
            acts.make_due(engine)
            assert wait_for(lambda: ended(engine, run)).state == "succeeded"
            assert acts.load(engine, run).attempt == 2


def test_errors_are_kept_without_secrets(engine: Engine, settings: Settings) -> None:
    known = settings.model_copy(update={"judge_api_key": SecretStr("a-very-secret-word")})

    def execute(run: Run, reporter: RunReporter) -> dict[str, Any]:
        raise RuntimeError(
            "GET https://me:pass@judge.example/v1 with a-very-secret-word and sk-abcdefghijklmnop"
        )

    run = acts.submit(engine, TRAIN)
    with working(engine, known, execute):
        failed = wait_for(lambda: (r := acts.load(engine, run)).error and r)
    assert "https://***@judge.example/v1" in failed.error
    for secret in ("pass", "very-secret", "abcdefgh"):
        assert secret not in failed.error


def _deep() -> list[Any]:
    nested: list[Any] = []
    for _ in range(5000):
        nested = [nested]
    return nested


@pytest.mark.parametrize("value", [10**5000, _deep()], ids=["digits", "depth"])
def test_a_result_that_cannot_be_stored_fails_the_run(
    engine: Engine, settings: Settings, value: Any
) -> None:
    run = acts.submit(engine, TRAIN)
    with working(engine, settings, lambda run, reporter: {"value": value}):
        ended_run = wait_for(lambda: ended(engine, run))
        assert ended_run.state == "failed" and "cannot be stored" in str(ended_run.error)


def test_progress_is_written_once_a_second_and_stages_always(
    engine: Engine, settings: Settings
) -> None:
    run = acts.submit(engine, TRAIN)

    def execute(run: Run, reporter: RunReporter) -> dict[str, Any]:
        for name in ("first", "second"):
            with reporter.stage(name, total=300, unit="steps") as stage:
                for step in range(300):
                    time.sleep(0.005)
                    stage.advance(step=step)
        reporter.log("a warning", figure=3)
        return {}

    with working(engine, settings, execute):
        wait_for(lambda: ended(engine, run))
    progress = acts.events(engine, run, "progress")
    assert 4 <= len(progress) <= 8  # two stages of 1.5 to 3 s: their starts, and one a second
    stages = acts.events(engine, run, "stage")
    assert [(stage["stage"], stage["done"]) for stage in stages] == [
        ("first", 300),
        ("second", 300),
    ]
    assert stages[0]["metrics"] == {"step": 299}
    assert acts.events(engine, run, "log") == [{"message": "a warning", "figure": 3}]


def test_work_may_give_itself_back(engine: Engine, settings: Settings) -> None:
    calls: list[int] = []

    def execute(run: Run, reporter: RunReporter) -> dict[str, Any]:
        calls.append(run.attempt)
        if len(calls) == 1:
            raise Interrupted
        return {}

    run = acts.submit(engine, TRAIN)
    with working(engine, settings, execute):
        assert wait_for(lambda: ended(engine, run)).state == "succeeded"
    assert calls == [1, 1]
