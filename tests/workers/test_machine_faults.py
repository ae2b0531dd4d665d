"""What machines do to workers: a database that is away, a full disk, no memory, a wrong clock, a
sleep so long that the worker is thought dead.  Real processes, real PostgreSQL, real file systems.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any

import pytest
from sqlalchemy import Engine

from service.database.migrate import migrate
from service.database.session import make_engine
from service.database.tables import Explanation, Sae
from service.settings import Settings
from service.stack.postgres import EmbeddedPostgres
from tests.support import run_acts as acts
from tests.support.campaign import wider
from tests.support.patience import SOON, wait_for
from tests.support.stub_server import StubServer
from tests.support.whole_library import check_library, judge, pipeline_of, rows
from tests.support.worker_process import (
    PATIENCE,
    WorkerProcess,
    checkpoints,
    longer,
    resumed_steps,
    wait_for_state,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]

AWAY = float(os.environ.get("MONOSEMY_DATABASE_AWAY", "5"))
"""Seconds for which the database is stopped; docs/reliability.md has the figures for 20."""
MOUNT_BYTES = 6 * 2**20


@pytest.fixture
def judged(settings: Settings) -> Iterator[Settings]:
    changes = {"lease_seconds": 3.0, "poll_seconds": 0.5, "judge_model": "stub"}
    with StubServer(respond=judge) as stub:
        yield settings.model_copy(update={**changes, "judge_url": stub.url})


@pytest.fixture
def database(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server of this test's own, which it may stop."""
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        migrate(server.url)
        yield server
    shutil.rmtree(server.data.parent, ignore_errors=True)


@pytest.mark.parametrize("lease", [2.0, *wider(30.0)], ids=["longer than a lease", "shorter"])
def test_a_database_that_is_away_for_a_while(
    database: EmbeddedPostgres, judged: Settings, tiny_spec: dict[str, Any], lease: float
) -> None:
    """Once while an SAE is trained and once while its features are explained."""
    settings = judged.model_copy(update={"database_url": database.url, "lease_seconds": lease})
    engine = make_engine(database.url)
    pipeline = acts.submit(engine, pipeline_of(longer(tiny_spec)))
    training = acts.children(engine, pipeline)[0].id
    with WorkerProcess("gpu", settings), WorkerProcess("interp", settings):
        wait_for(lambda: checkpoints(settings, training), PATIENCE)
        stop_for_a_while(database)
        wait_for(lambda: rows(engine, Explanation), PATIENCE, 0.1)
        stop_for_a_while(database)
        done = wait_for_state(engine, pipeline, "succeeded", PATIENCE + 2 * AWAY)
    check_library(engine, settings, done)
    assert acts.load(engine, training).attempt == (1 if lease > AWAY else 2)
    engine.dispose()


def stop_for_a_while(database: EmbeddedPostgres) -> None:
    database.stop()
    time.sleep(AWAY)
    database.start()


@pytest.mark.campaign
def test_a_worker_that_slept_through_its_lease_writes_nothing(
    clean_engine: Engine, judged: Settings, tiny_spec: dict[str, Any]
) -> None:
    engine = clean_engine
    pipeline = acts.submit(engine, pipeline_of(longer(tiny_spec)))
    training = acts.children(engine, pipeline)[0].id
    with WorkerProcess("gpu", judged) as sleeper:
        wait_for(lambda: checkpoints(judged, training), PATIENCE)
        sleeper.signal(SIGSTOP)
        with WorkerProcess("gpu", judged), WorkerProcess("interp", judged):
            wait_for(lambda: resumed_steps(engine, training), PATIENCE)
            heir = acts.load(engine, training).lease_owner
            sleeper.signal(SIGCONT)
            wait_for(lambda: "not ours any more" in sleeper.log, PATIENCE)
            assert acts.load(engine, training).lease_owner == heir
            done = wait_for_state(engine, pipeline, "succeeded")
    check_library(engine, judged, done)
    assert acts.load(engine, training).attempt == 2


SKEWED = """
import datetime, os, time
skew = float(os.environ["CLOCK_SKEW"])
real = time.time
time.time = lambda: real() + skew
time.time_ns = lambda: int((real() + skew) * 1e9)
class Skewed(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(real() + skew, tz)
    @classmethod
    def utcnow(cls):
        return cls.fromtimestamp(real() + skew, datetime.timezone.utc).replace(tzinfo=None)
datetime.datetime = Skewed
"""


@pytest.mark.campaign
def test_clocks_that_differ_by_two_minutes_change_nothing(
    clean_engine: Engine, judged: Settings, tiny_spec: dict[str, Any], tmp_path: Path
) -> None:
    engine = clean_engine
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(SKEWED)
    clock = {"PYTHONPATH": str(tmp_path / "clock")}
    pipeline = acts.submit(engine, pipeline_of(longer(tiny_spec)))
    with (
        WorkerProcess("gpu", judged, CLOCK_SKEW="60", **clock) as fast,
        WorkerProcess("gpu", judged, CLOCK_SKEW="-60", **clock) as slow,
        WorkerProcess("interp", judged, CLOCK_SKEW="60", **clock),
        WorkerProcess("interp", judged, CLOCK_SKEW="-60", **clock),
    ):
        done = wait_for_state(engine, pipeline, "succeeded")
        assert first_minute(fast) > first_minute(slow)  # they do run by different clocks
    check_library(engine, judged, done)
    steps = acts.children(engine, pipeline)
    assert [step.attempt for step in steps] == [1] * 5, "nobody took a lease for run out"


def first_minute(worker: WorkerProcess) -> str:
    """Of the worker's log, as its own clock tells it."""
    line = next(line for line in worker.log.splitlines() if line.startswith('{"time": "'))
    return line[10:26]


@pytest.fixture
def small_disk(judged: Settings) -> Iterator[Path]:
    """The artifact folder on a file system of a few megabytes."""
    if shutil.which("mount") is None or shutil.which("umount") is None:
        pytest.skip("there is no mount or umount here")
    folder = judged.artifacts
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={MOUNT_BYTES}", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--recursive", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("fault", ["full", *wider("read-only")])
def test_a_disk_that_takes_nothing_for_a_while(
    clean_engine: Engine,
    judged: Settings,
    small_disk: Path,
    tiny_spec: dict[str, Any],
    fault: str,
) -> None:
    """The run fails with advice, its checkpoint kept; the worker lives; a retry goes on."""
    engine = clean_engine
    run = acts.submit(engine, longer(tiny_spec))
    with WorkerProcess("gpu", judged) as worker:
        wait_for(lambda: checkpoints(judged, run), PATIENCE)
        if fault == "full":
            filler = small_disk / "somebody-elses-file"
            fill(filler)
        else:
            protect(small_disk / "runs", True)
        failed = wait_for(lambda: (r := acts.load(engine, run)).state == "failed" and r, PATIENCE)
        # Whatever was being written then: a checkpoint, the activation cache, the SAE itself.
        pattern = {"full": "no space .*free ", "read-only": "read-only file system"}[fault]
        assert re.search(pattern, str(failed.error), re.IGNORECASE), failed.error
        assert checkpoints(judged, run)
        if fault == "full":
            filler.unlink()
        else:
            protect(small_disk / "runs", False)
        acts.retry(engine, run)
        wait_for_state(engine, run, "succeeded")
        assert worker.alive
    (step,) = resumed_steps(engine, run)
    assert step > 0
    assert len(rows(engine, Sae)) == 1


def fill(path: Path) -> None:
    """Until nothing fits any more."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def protect(folder: Path, closed: bool) -> None:
    """Makes a folder read-only, or writable again, whatever is open elsewhere on its disk."""
    if closed:
        subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    command = ["mount", "-o", f"remount,bind,{'ro' if closed else 'rw'}", str(folder)]
    # Refused while a file there is being written.
    wait_for(lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0)


def test_a_run_too_large_for_the_memory_fails_with_advice(
    clean_engine: Engine, judged: Settings, tiny_spec: dict[str, Any]
) -> None:
    engine = clean_engine
    huge = {**tiny_spec, "sae": {**tiny_spec["sae"], "d_sae": 2**31 - 1}}
    run, after = acts.submit(engine, huge), acts.submit(engine, tiny_spec)
    # The deployment would let it pass; the machine does not hold it.
    allowed = {"MONOSEMY_MAX_D_SAE": str(2**31), "MONOSEMY_MAX_MEMORY_MB": str(10**9)}
    with WorkerProcess("gpu", judged, **allowed) as worker:
        wait_for_state(engine, after, "succeeded")
        assert worker.alive
    failed = acts.load(engine, run)
    assert failed.state == "failed" and failed.attempt == 1
    assert "would take" in str(failed.error) and "fewer latents" in str(failed.error)


def test_cancelling_takes_seconds_and_keeps_the_checkpoint(
    clean_engine: Engine, judged: Settings, tiny_spec: dict[str, Any]
) -> None:
    engine = clean_engine
    pipeline = acts.submit(engine, pipeline_of(longer(tiny_spec)))
    training, _, _, explaining, _ = (child.id for child in acts.children(engine, pipeline))
    with WorkerProcess("gpu", judged), WorkerProcess("interp", judged):
        for step, under_way in (
            (training, lambda: checkpoints(judged, training)),
            (explaining, lambda: rows(engine, Explanation)),
        ):
            wait_for(under_way, PATIENCE)
            began = time.monotonic()
            acts.cancel(engine, pipeline)
            wait_for(lambda run=step: acts.load(engine, run).state == "cancelled", 20.0)
            assert time.monotonic() - began < SOON
            assert acts.load(engine, pipeline).state == "cancelled"
            acts.retry(engine, pipeline)
        done = wait_for_state(engine, pipeline, "succeeded")
    assert resumed_steps(engine, training)[0] > 0
    check_library(engine, judged, done)
