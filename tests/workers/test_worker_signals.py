"""A worker process in the middle of training that is told to end, once and twice."""

from __future__ import annotations

import time
from signal import SIGCONT, SIGINT, SIGSTOP, SIGTERM
from typing import Any

import pytest
from sqlalchemy import Engine

from service.runs.wake import wake
from service.settings import Settings
from tests.support import run_acts as acts
from tests.support.patience import SOON, wait_for
from tests.support.worker_process import PATIENCE, WorkerProcess, checkpoints, longer, resumed_steps

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_one_signal_drains_and_a_second_ends_at_once(
    clean_engine: Engine, settings: Settings, tiny_spec: dict[str, Any]
) -> None:
    engine, spec = clean_engine, longer(tiny_spec)
    run = acts.submit(engine, {**spec, "training": {**spec["training"], "tokens": 10**9}})
    with WorkerProcess("gpu", settings) as first:
        wait_for(lambda: acts.load(engine, run).progress.get("stage") == "train", PATIENCE)
        time.sleep(0.5)
        code, seconds = first.drain()
        assert (code, seconds < SOON) == (0, True), first.log
    back = acts.load(engine, run)
    assert (back.state, back.attempt, back.lease_owner) == ("queued", 0, None)
    newest = checkpoints(settings, run)[-1]

    with WorkerProcess("gpu", settings) as second:
        wake(settings.redis_url, "gpu")
        wait_for(lambda: resumed_steps(engine, run), PATIENCE)
        # To the step where the first one was stopped.
        assert resumed_steps(engine, run) == [int(newest.name.removeprefix("step-"))]
        # Held still, so that both signals are there before it can drain.
        assert second.send(SIGSTOP, SIGTERM, SIGINT, SIGCONT) == 1
    assert acts.load(engine, run).state == "running"  # until its lease ends
