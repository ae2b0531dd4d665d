"""A whole pipeline through real worker processes, which are killed on the way."""

from __future__ import annotations

import json
import uuid
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import run_acts as acts
from sqlalchemy import Engine, select
from stub_server import Answer, Request, StubServer, asked_about, good, texts_asked
from worker_process import (
    LONGER,
    PATIENCE,
    WorkerProcess,
    checkpoints,
    longer,
    resumed_steps,
    wait_for_state,
)
from worker_thread import wait_for

from monosemy.data.store import TokenStore
from monosemy.specs import Part, parse_spec
from monosemy.workspace import Workspace
from service.database.session import transaction
from service.database.tables import Explanation, Feature, Run, Sae, Score
from service.runs.wake import wake
from service.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FEATURES = 6
DELAY = 0.3


def judge(request: Request) -> Answer:
    """Explains every feature differently, judges texts by a hash, and takes its time."""
    texts = texts_asked(request)
    if texts:
        claim = asked_about(request)
        answer = good(**{k: zlib.crc32((claim + v).encode()) % 3 > 0 for k, v in texts.items()})
        answer.delay = DELAY
        return answer
    number = zlib.crc32(json.dumps(request["messages"]).encode()) % 10_000
    answer = good(
        label=f"topic {number}",
        explanation=f"Sentences which concern subject number {number} and its surroundings.",
        confidence="medium",
    )
    answer.delay = DELAY
    return answer


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


def pipeline_of(spec: dict[str, Any]) -> Part:
    features = {"count": FEATURES, "min_postings": 20, "max_density": 1.0}
    return parse_spec(
        {
            **spec,
            "kind": "pipeline",
            "evaluation": {"tokens": 512, "reconstruction_tokens": 1024},
            "indexing": {"top_examples": 4, "quantile_examples": 2, "window": 8},
            "explanation": {"features": features, "examples": 4},
            "scoring": {"positives": 4, "negatives": 4, "texts_per_call": 4},
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
        assert (code, seconds < 10) == (0, True), drained.log
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


def some_of(engine: Engine, table: Any) -> set[uuid.UUID]:
    """The first rows of ``table``, once there are two of them; not yet all."""
    wait_for(lambda: len(rows(engine, table)) >= 2, PATIENCE)
    found = {row.id for row in rows(engine, table)}
    assert len(found) < FEATURES
    return found


def rows(engine: Engine, table: Any) -> list[Any]:
    with transaction(engine) as session:
        return list(session.scalars(select(table)))


def check_library(engine: Engine, settings: Settings, pipeline: Run) -> None:
    """One SAE with everything a pipeline is to bring, nothing of it twice."""
    (sae,) = rows(engine, Sae)
    assert pipeline.result is not None and pipeline.result["sae_id"] == str(sae.id)
    assert 0 < sae.metrics["fvu"] < 1 and 0 < sae.metrics["evaluation"]["fvu"] < 1
    assert sae.metrics["tokens"] >= LONGER
    assert len(rows(engine, Feature)) == sae.d_sae == 64
    explained = rows(engine, Explanation)
    wanted = pipeline.result["explain"]["features"]
    assert len(wanted) == FEATURES
    assert sorted(row.feature for row in explained) == sorted(wanted)
    found = rows(engine, Score)
    assert Counter(s.explanation_id for s in found) == Counter(row.id for row in explained)
    for score in found:
        assert score.n == 8 and score.n_failed == 0
        assert score.value is not None and score.low is not None and score.high is not None
        assert score.low <= score.value <= score.high
        assert score.baseline is not None and score.details["baseline"]["n"] == 8
    assert sae.index is not None
    store = TokenStore.open(Workspace(settings.artifacts).locate(f"text/{sae.index['text_id']}"))
    shown = {
        int(store.row_document[example["row"]])
        for row in explained
        for example in row.provenance["examples"]
    }
    judged = {j["document"] for score in found for j in score.details["judgements"]}
    assert shown and judged and not shown & judged
