"""A whole pipeline through real worker processes, which are killed on the way."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from sqlalchemy import Engine

from service.database.tables import Explanation, Sae, Score
from service.runs.wake import wake
from service.settings import Settings
from tests.support import run_acts as acts
from tests.support.patience import SOON, wait_for
from tests.support.stub_server import StubServer
from tests.support.whole_library import FEATURES, check_library, judge, pipeline_of, rows
from tests.support.worker_process import (
    LONGER,
    PATIENCE,
    WorkerProcess,
    checkpoints,
    longer,
    resumed_steps,
    wait_for_state,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with StubServer(respond=judge) as server:
        yield server


@pytest.fixture
def settings(settings: Settings, stub: StubServer) -> Settings:
    return settings.model_copy(
        update={
            "lease_seconds": 3.0,
            "poll_seconds": 0.5,
            "judge_url": stub.url,
            "judge_model": "stub",
        }
    )


def test_a_pipeline_outlives_its_workers_and_redis(
    clean_engine: Engine, settings: Settings, tiny_spec: dict[str, Any]
) -> None:
    """kill -9 in training, a flushed Valkey, SIGTERM in explaining, kill -9 in scoring: the result
    is whole, and each part of it is there once."""
    engine = clean_engine
    pipeline = acts.submit(engine, pipeline_of(longer(tiny_spec)))
    training, _, _, explaining, scoring = (c.id for c in acts.children(engine, pipeline))
    wake(settings.redis_url, "gpu")

    with WorkerProcess("gpu", settings) as first:
        wait_for(lambda: checkpoints(settings, training), PATIENCE)
        first.kill()
    assert acts.load(engine, training).state == "running"  # nobody has noticed yet
    assert rows(engine, Sae) == []

    with WorkerProcess("gpu", settings), WorkerProcess("interp", settings) as drained:
        wait_for(lambda: resumed_steps(engine, training), PATIENCE)
        client = redis.Redis.from_url(str(settings.redis_url))
        client.flushall()
        client.script_flush()
        wait_for_state(engine, training, "succeeded")
        (step,) = resumed_steps(engine, training)
        assert 0 < step < LONGER // 256

        explained = some_of(engine, Explanation)
        code, seconds = drained.drain()
        assert (code, seconds < SOON) == (0, True), drained.log
        assert acts.load(engine, explaining).state == "queued"

        with WorkerProcess("interp", settings) as killed:
            scored = some_of(engine, Score)
            killed.kill()
        assert acts.load(engine, scoring).state == "running"
        with WorkerProcess("interp", settings):
            done = wait_for_state(engine, pipeline, "succeeded")

    steps = acts.children(engine, pipeline)
    assert [step.state for step in steps] == ["succeeded"] * 5
    assert [step.attempt for step in steps] == [2, 1, 1, 1, 2]  # a drained attempt is not counted
    assert explained < {row.id for row in rows(engine, Explanation)}
    assert scored < {row.id for row in rows(engine, Score)}
    check_library(engine, settings, done)
    assert len(rows(engine, Sae)) == 1


def some_of(engine: Engine, table: Any) -> set[uuid.UUID]:
    """The first rows of ``table``, once there are two of them; not yet all."""
    wait_for(lambda: len(rows(engine, table)) >= 2, PATIENCE)
    ids = {row.id for row in rows(engine, table)}
    assert len(ids) < FEATURES
    return ids
