"""Real worker processes (``python -m workers.gpu``): killed, told to end, bereft of Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import run_acts as acts
from sqlalchemy import Engine, select
from worker_thread import wait_for

from monosemy.formats.saelens import load_sae
from monosemy.workspace import Workspace
from service.database.session import transaction
from service.database.tables import Feature, Run, Sae
from service.runs.wake import wake
from service.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
START_SECONDS = 90.0
LEASE_SECONDS = 3.0


class Processes:
    """GPU workers as children of the test, all on one database, Redis and artifact folder."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.running: list[subprocess.Popen[bytes]] = []
        self.log = log.open("ab")
        self.environment = {
            **os.environ,
            "MONOSEMY_HOME": str(settings.home),
            "MONOSEMY_DATABASE_URL": str(settings.database_url),
            "MONOSEMY_REDIS_URL": str(settings.redis_url),
            "MONOSEMY_LEASE_SECONDS": str(LEASE_SECONDS),
            "MONOSEMY_POLL_SECONDS": "0.5",
            "OMP_NUM_THREADS": "1",
        }

    def start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.gpu"],
            cwd=ROOT,
            env=self.environment,
            stdout=self.log,
            stderr=self.log,
        )
        self.running.append(process)
        return process

    def owning(self, run: Run) -> subprocess.Popen[bytes]:
        """The process that holds ``run``; a worker's name has its process id in the middle."""
        pid = int(str(run.lease_owner).split(":")[1])
        (process,) = [process for process in self.running if process.pid == pid]
        return process

    def end(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.wait(10)
        self.log.close()


@pytest.fixture
def processes(settings: Settings, clean_engine: Engine, tmp_path: Path) -> Iterator[Processes]:
    found = Processes(settings, tmp_path / "workers.log")
    yield found
    found.end()
    sys.stdout.write((tmp_path / "workers.log").read_text(errors="replace")[-5000:])


def long_training(tiny_spec: dict[str, Any], steps: int) -> dict[str, Any]:
    """Thousands of tiny steps, a checkpoint about every third of a second."""
    training = {
        **tiny_spec["training"],
        "tokens": 64 * steps,
        "batch_tokens": 64,
        "checkpoint_seconds": 0.3,
        "frozen_decoder_baseline": False,
    }
    return {**tiny_spec, "training": training}


def pipeline_of(train: dict[str, Any]) -> dict[str, Any]:
    evaluation = {"tokens": 256, "reconstruction_tokens": 512}
    return {
        **train,
        "kind": "pipeline",
        "evaluation": evaluation,
        "explanation": None,
        "scoring": None,
    }


def checkpoints(settings: Settings, run: uuid.UUID) -> list[str]:
    folder = settings.artifacts / "runs" / str(run)
    return sorted(path.name for path in folder.glob("step-*"))


def resumed_at(engine: Engine, run: uuid.UUID) -> list[int]:
    logs = acts.events(engine, run, "log")
    return [entry["step"] for entry in logs if entry["message"].startswith("resumed")]


def test_a_killed_workers_run_is_taken_up_from_its_checkpoint(
    processes: Processes, settings: Settings, engine: Engine, tiny_spec: dict[str, Any]
) -> None:
    """Killed with -9 in the middle of training, Valkey flushed; the pipeline completes."""
    pipeline = acts.submit(engine, pipeline_of(long_training(tiny_spec, 3000)))
    train = acts.children(engine, pipeline)[0].id
    processes.start(), processes.start()
    wait_for(lambda: checkpoints(settings, train), START_SECONDS)
    victim = processes.owning(acts.load(engine, train))
    victim.send_signal(signal.SIGKILL)
    victim.wait(10)
    killed = time.monotonic()
    left = acts.load(engine, train)
    assert (left.state, left.attempt) == ("running", 1), "it was to be killed in the middle"
    client = redis.Redis.from_url(str(settings.redis_url))
    client.flushall()
    client.script_flush()

    taken = wait_for(lambda: (run := acts.load(engine, train)).attempt == 2 and run, 30)
    assert time.monotonic() - killed < LEASE_SECONDS + 10
    assert taken.lease_owner != left.lease_owner
    done = wait_for(
        lambda: (run := acts.load(engine, pipeline)).state in ("succeeded", "failed") and run, 120
    )
    assert done.state == "succeeded", done.error
    (step,) = resumed_at(engine, train)
    assert 0 < step < 3000
    end = acts.load(engine, train)
    assert end.result is not None and end.result["metrics"]["steps"] == 3000
    assert acts.events(engine, train, "state")[-2]["takeover"] is True
    _check_published(engine, settings)


def _check_published(engine: Engine, settings: Settings) -> None:
    with transaction(engine) as session:
        sae = session.scalars(select(Sae)).one()
        features = session.scalars(select(Feature).where(Feature.sae_id == sae.id)).all()
    assert load_sae(Workspace(settings.artifacts).locate(sae.path)).d_sae == 64 == len(features)
    assert sae.metrics["evaluation"] and sae.index is not None


def test_a_worker_told_to_end_drains(
    processes: Processes, settings: Settings, engine: Engine, tiny_spec: dict[str, Any]
) -> None:
    """SIGTERM: checkpoint, run given back, exit status 0; then a message wakes the next worker,
    which a second signal ends at once."""
    worker = processes.start()
    train = acts.submit(engine, long_training(tiny_spec, 1_000_000))
    wait_for(lambda: acts.load(engine, train).progress.get("stage") == "train", START_SECONDS)
    time.sleep(0.5)
    began = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    assert time.monotonic() - began < 10
    back = acts.load(engine, train)
    assert (back.state, back.attempt, back.lease_owner) == ("queued", 0, None)
    (*_, newest) = checkpoints(settings, train)

    second = processes.start()
    wake(settings.redis_url, "gpu")
    wait_for(lambda: resumed_at(engine, train), START_SECONDS)
    assert resumed_at(engine, train) == [int(newest.removeprefix("step-"))]  # nothing was lost
    second.send_signal(signal.SIGSTOP)  # so that both signals are there before it can drain
    second.send_signal(signal.SIGTERM)
    second.send_signal(signal.SIGINT)
    second.send_signal(signal.SIGCONT)
    assert second.wait(10) == 1
    assert acts.load(engine, train).state == "running"  # until its lease ends
