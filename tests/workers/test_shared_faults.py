"""Many features, several workers, a judge that fails a fifth of its calls, and kill -9."""

from __future__ import annotations

import json
import logging
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from sqlalchemy import Engine, func, select, text

from monosemy.specs import parse_spec
from service.database.judge_tables import JudgeCall, WorkItem
from service.database.session import transaction
from service.database.tables import Explanation, Run, Score
from service.runs.wake import wake
from service.settings import Settings
from tests.support import judge_server
from tests.support import run_acts as acts
from tests.support.campaign import wider
from tests.support.child_process import ChildProcess
from tests.support.tiny_text import tiny_documents
from tests.support.trained_library import SITE
from tests.support.worker_process import WorkerProcess, wait_for_state
from workers.gpu import GpuRuns
from workers.worker import Worker

logger = logging.getLogger(__name__)

pytestmark = [pytest.mark.integration, pytest.mark.slow]

AT_ONCE, FAULTS = 16, 0.2
SCORERS = [{"seed": 0}, {"seed": 1}]
PATIENCE = 900.0


@dataclass(frozen=True)
class Size:
    latents: int
    """Of the SAE."""
    features: int
    """That are explained and scored."""
    workers: int
    between: int
    """Explanations and scores that are made between two kills, on average."""


SMALL = Size(latents=512, features=60, workers=2, between=60)
WIDE = Size(latents=4096, features=2000, workers=4, between=600)


@pytest.fixture(
    params=[SMALL, *wider(WIDE)],
    ids=lambda size: f"{size.features} features",
)
def size(request: pytest.FixtureRequest) -> Size:
    chosen: Size = request.param
    return chosen


@pytest.fixture
def judge_url(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = Path(judge_server.__file__)
    url = f"http://127.0.0.1:{port}/v1"
    command = [sys.executable, str(file), str(port), str(FAULTS)]
    with ChildProcess(command, tmp_path / "judge.log") as server:
        server.wait_until(lambda: reachable(url))
        yield url


def reachable(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ledger", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def settings(settings: Settings, judge_url: str) -> Settings:
    changes = {"judge_url": judge_url, "judge_model": "stub", "judge_timeout": 1.5}
    return settings.model_copy(update={**changes, "lease_seconds": 6.0, "poll_seconds": 0.5})


@pytest.fixture
def sae(clean_engine: Engine, settings: Settings, tiny_spec: dict[str, Any], size: Size) -> str:
    """An SAE of more latents than a tiny host deserves, trained and indexed."""
    file = settings.home / "text.jsonl"
    file.write_text(
        "\n".join(
            json.dumps({"text": each}) for each in tiny_documents(300 if size is WIDE else 100)
        )
    )
    spec = {
        **tiny_spec,
        "kind": "pipeline",
        "name": "wide",
        "text": {**tiny_spec["text"], "source": str(file)},
        "site": SITE,
        "sae": {"d_sae": size.latents, "k": size.latents // 64},
        "evaluation": None,
        "indexing": {"top_examples": 2, "quantile_examples": 1, "window": 8},
        "explanation": None,
        "scoring": None,
    }
    run = acts.submit(clean_engine, parse_spec(spec))
    worker = Worker("gpu", settings, GpuRuns(settings, clean_engine), clean_engine)
    while worker._take_one():
        pass
    assert acts.load(clean_engine, run).state == "succeeded", acts.load(clean_engine, run).error
    return "wide"


class RunGroup:
    """Worker processes of which one dies now and then, and is replaced."""

    def __init__(self, engine: Engine, settings: Settings, size: Size) -> None:
        self.engine, self.settings, self.size = engine, settings, size
        self.workers = [WorkerProcess("interp", settings).__enter__() for _ in range(size.workers)]
        self.kills = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._reap, daemon=True)
        self._thread.start()

    def _reap(self) -> None:
        """Waits for work done, not for time: a slow machine is not killed to death."""
        luck, next_at = random.Random(0), self.size.between // 2
        while not self._stop.wait(0.1):
            if results(self.engine) < next_at:
                continue
            next_at += luck.randint(self.size.between // 2, self.size.between * 3 // 2)
            place = luck.randrange(self.size.workers)
            self.workers[place].kill()
            self.kills += 1
            self.workers[place] = WorkerProcess("interp", self.settings).__enter__()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        for worker in self.workers:
            worker.kill()


def results(engine: Engine) -> int:
    with transaction(engine) as session:
        tables = (Explanation, Score)
        return sum(session.scalar(select(func.count()).select_from(each)) or 0 for each in tables)


def run_of(engine: Engine, settings: Settings, spec: dict[str, Any]) -> Run:
    run = acts.submit(engine, parse_spec(spec))
    wake(settings.redis_url, "interp")
    return wait_for_state(engine, run, "succeeded", PATIENCE)


def test_nothing_is_lost_and_nothing_is_done_twice(
    clean_engine: Engine, settings: Settings, sae: str, size: Size
) -> None:
    engine, judge = clean_engine, {"concurrency": AT_ONCE}
    few = {"positives": 4, "negatives": 4, "texts_per_call": 8, "judge": judge}
    chosen = {"count": size.features, "min_postings": 20, "max_density": 1.0}
    explain = {"features": chosen, "examples": 4, "judge": judge}
    group = RunGroup(engine, settings, size)
    began = time.monotonic()
    flush = threading.Timer(5, lambda: redis.Redis.from_url(str(settings.redis_url)).flushall())
    flush.start()
    try:
        runs = [run_of(engine, settings, {"kind": "explain", "sae": sae, "explanation": explain})]
        for scorer in SCORERS:
            spec = {"kind": "score", "sae": sae, "scoring": {**few, **scorer}}
            runs.append(run_of(engine, settings, spec))
    finally:
        group.stop()
        flush.cancel()
    seconds = time.monotonic() - began
    for run in runs:
        assert run.result is not None
        counts = (run.result["done"], run.result["failed"], run.result["left"])
        assert counts == (size.features, 0, 0), run.result["failures"]
    seen = httpx.get(f"{settings.judge_url}/ledger", trust_env=False, timeout=60).json()
    logger.warning("%d calls, %d kills, %.0f s", len(seen), group.kills, seconds)
    assert group.kills >= 2
    check_results(engine, size.features)
    check_ledger(engine, seen, group.kills)


def check_results(engine: Engine, count: int) -> None:
    """Each explanation and each score exactly once, none with a judgement missing."""
    with transaction(engine) as session:
        features = list(session.scalars(select(Explanation.feature)))
        assert len(features) == len(set(features)) == count
        scores = session.execute(select(Score.explanation_id, Score.key)).all()
        assert len(scores) == len(set(scores)) == count * len(SCORERS)
        assert session.scalar(select(func.sum(Score.n_failed))) == 0
        states = dict(
            session.execute(select(WorkItem.state, func.count()).group_by(WorkItem.state)).all()
        )
        assert states == {"done": count * (1 + len(SCORERS))}


def check_ledger(engine: Engine, seen: list[dict[str, Any]], kills: int) -> None:
    """Every request that the judge saw is entered, with the status and tokens that it gave."""
    with transaction(engine) as session:
        entered = {str(call.id): call for call in session.scalars(select(JudgeCall))}
        sums = session.execute(
            text("SELECT sum(calls), sum(prompt_tokens), sum(completion_tokens) FROM judge_spend")
        ).one()
    asked = Counter(entry["id"] for entry in seen)
    assert set(asked.values()) == {1}, "no request is sent twice under one entry"
    assert set(asked) <= set(entered), "no request is missing"
    unknown = {id_ for id_, call in entered.items() if call.state == "sent"}
    # Of a killed worker: under way, or entered and not yet sent.
    assert len(unknown) <= kills * AT_ONCE
    # No connection was had, on a machine that is busy: the next try is an entry of its own.
    unheard = {id_ for id_, call in entered.items() if call.state == "failed" and not call.status}
    unheard -= set(asked)
    assert len(unheard) <= max(kills, len(asked) // 1000), "connections fail seldom"
    assert set(entered) - unknown - unheard <= set(asked), "no call is made up"
    for entry in seen:
        call = entered[entry["id"]]
        if call.state != "sent" and call.status is not None:
            assert call.status == entry["status"]
            if call.status == 200:
                assert [call.prompt_tokens, call.completion_tokens] == entry["tokens"]
    assert sums[0] == len(entered)
    answered = [call for call in entered.values() if call.state == "answered"]
    assert sums[1] == sum(call.prompt_tokens for call in answered)
    assert sums[2] == sum(call.completion_tokens for call in answered)
    assert abs(len(seen) - len(entered)) <= len(unknown) + len(unheard)
