"""Runs whose questions go through the Batch API, on the real stack."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select, text

from service.database.session import transaction
from service.database.tables import Explanation, Run, Score
from service.settings import Settings
from tests.support import run_acts as acts
from tests.support.batch_stub import BatchStub
from tests.support.interp_runs import EXPLAIN, SCORE, SCORING, judge
from tests.support.patience import SOON
from tests.support.trained_library import Trained
from workers import stoppable
from workers.interp import InterpRuns
from workers.worker import Worker

pytestmark = pytest.mark.integration

BATCHED = {"batch": True, "price": {"input": 10.0, "output": 10.0}}


@pytest.fixture
def stub() -> Iterator[BatchStub]:
    with BatchStub(judge, delay=1.0) as server:
        yield server


@pytest.fixture
def settings(trained: Trained, stub: BatchStub) -> Settings:
    with transaction(trained.engine) as session:
        session.execute(text("DELETE FROM explanations"))
        session.execute(text("DELETE FROM runs WHERE parent_id IS NULL AND kind <> 'pipeline'"))
    return trained.settings.model_copy(
        update={"judge_url": stub.url, "judge_model": "stub", "inference_url": None}
    )


def worker_of(trained: Trained, settings: Settings) -> Worker:
    return Worker("interp", settings, InterpRuns(settings, trained.engine), trained.engine)


def batched(spec: dict[str, Any], part: str) -> dict[str, Any]:
    return {**spec, part: {**spec[part], "judge": BATCHED}}


def execute(trained: Trained, settings: Settings, spec: dict[str, Any]) -> Run:
    run = acts.submit(trained.engine, spec)
    assert worker_of(trained, settings)._take_one()
    done = acts.load(trained.engine, run)
    assert done.state == "succeeded", done.error
    return done


def test_features_share_batches(trained: Trained, settings: Settings, stub: BatchStub) -> None:
    explained = execute(trained, settings, batched(EXPLAIN, "explanation"))
    assert explained.result is not None and explained.result["done"] == 6
    assert len(stub.batches) == 1 and len(stub.lines) == 6
    # Half of 10 per million for 110 tokens a line; the probe is entered at that price too.
    assert explained.result["usage"]["cost"] == pytest.approx(7 * 110 * 5e-6)
    scored = execute(trained, settings, batched({**SCORE, "scoring": SCORING}, "scoring"))
    assert scored.result is not None and scored.result["done"] == 6
    assert len(stub.batches) == 3, "one for the explanations and one for the shuffled ones"
    assert stub.requests == [], "but for the probes nothing is asked live"
    with transaction(trained.engine) as session:
        assert len(list(session.scalars(select(Score)))) == 6


@pytest.mark.parametrize("slow", [0.0, 2.0])
def test_a_cancelled_run_withdraws_its_batch(
    trained: Trained,
    settings: Settings,
    stub: BatchStub,
    slow: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if slow:  # the run stops by a check of its own, and is cancelled while it withdraws
        monkeypatch.setattr(stoppable, "_SECONDS", 1.5)
    stub.delay, stub.slow_to_cancel = 300.0, slow
    run = acts.submit(trained.engine, batched(EXPLAIN, "explanation"))
    working = threading.Thread(target=worker_of(trained, settings)._take_one)
    working.start()
    _wait_for(lambda: bool(stub.batches))
    began = time.monotonic()
    acts.cancel(trained.engine, run)
    working.join(timeout=30)
    assert not working.is_alive() and time.monotonic() - began < SOON
    assert acts.load(trained.engine, run).state == "cancelled"
    assert [batch["status"] for batch in stub.batches.values()] == ["cancelled"]
    with transaction(trained.engine) as session:
        assert session.scalars(select(Explanation)).first() is None


def _wait_for(done: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)
