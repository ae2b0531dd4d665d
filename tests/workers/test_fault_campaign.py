"""Every process of a whole stack is killed, over and over, at random moments of a pipeline.

    MONOSEMY_KILLS=60 python -m pytest -s tests/workers/test_fault_campaign.py

is the long form, which prints what docs/reliability.md quotes.  Of ``make test-all``;
``test_pipeline_faults.py`` is its small sibling.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from monosemy.specs.run_states import ENDED
from service.database.session import make_engine
from service.database.tables import Explanation, Run, RunEvent, Sae, Score
from service.settings import Settings
from service.stack.supervisor import Stack
from tests.support import run_acts as acts
from tests.support.stub_server import StubServer
from tests.support.whole_library import check_library, judge, of_sae, pipeline_of, rows
from tests.support.worker_process import longer

pytestmark = [pytest.mark.integration, pytest.mark.campaign, pytest.mark.timeout(3600)]

KILLS = int(os.environ.get("MONOSEMY_KILLS", "10"))
SEED = int(os.environ.get("MONOSEMY_KILLS_SEED", "0"))
PATIENCE = 240.0


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """As ``monosemy up`` runs it, two workers of each kind, leases of three seconds."""
    for name in [name for name in os.environ if name.startswith("MONOSEMY_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    with StubServer(respond=judge) as stub:
        settings = Settings(
            home=home,
            port=0,
            lease_seconds=3.0,
            poll_seconds=0.5,
            judge_url=stub.url,
            judge_model="stub",
        )
        with Stack(settings, gpu_workers=2, interp_workers=2) as stack:
            yield stack
    link = home / "postgres" / "data-elsewhere"
    if link.is_symlink():  # as root, PostgreSQL's data lies outside the test's folder
        shutil.rmtree(link.readlink().parent)


class Follower(threading.Thread):
    """Reads a run's events as a client does: taking up again after the last it saw."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.seen: list[int] = []
        self.breaks = 0

    def run(self) -> None:
        while True:
            headers = {"Last-Event-ID": str(self.seen[-1])} if self.seen else {}
            try:
                with httpx.stream("GET", self.url, headers=headers, timeout=20) as answer:
                    if answer.status_code == 204:
                        return
                    answer.raise_for_status()
                    for line in answer.iter_lines():
                        if line.startswith("id:"):
                            self.seen.append(int(line[3:]))
            except httpx.HTTPError:
                self.breaks += 1
                time.sleep(0.3)


def insist(method: str, url: str, **sent: Any) -> Any:
    """What a client of a service that restarts does: it asks again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            answer = httpx.request(method, url, timeout=10, trust_env=False, **sent)
            if answer.status_code < 500:
                assert answer.status_code < 300, answer.text
                return answer.json()
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, f"{url} does not answer"
        time.sleep(0.2)


def submit(stack: Stack, spec: dict[str, Any], key: str) -> str:
    body = pipeline_of(spec).model_dump(mode="json")
    url = f"{stack.addresses.url}/api/v1/runs"
    return str(insist("POST", url, json=body, headers={"Idempotency-Key": key})["id"])


def ended(stack: Stack, run: str) -> dict[str, Any] | None:
    run_row: dict[str, Any] = insist("GET", f"{stack.addresses.url}/api/v1/runs/{run}")
    return run_row if run_row["state"] in ENDED else None


def fingerprint(engine: Engine, home: Path, name: str) -> dict[str, Any]:
    """The weights' bytes, what was explained, and how it scored."""
    (sae,) = [row for row in rows(engine, Sae) if row.name == name]
    folder = home / "artifacts" / sae.path
    explained = {row.id: row for row in of_sae(engine, Explanation, sae.id)}
    return {
        "weights": hashlib.sha256((folder / "sae_weights.safetensors").read_bytes()).hexdigest(),
        "fvu": sae.metrics["evaluation"]["fvu"],
        "explanations": sorted((row.feature, row.text) for row in explained.values()),
        "scores": sorted(
            (explained[row.explanation_id].feature, row.scorer, row.value)
            for row in rows(engine, Score)
            if row.explanation_id in explained
        ),
    }


def test_nothing_is_lost_and_nothing_is_doubled(stack: Stack, tiny_spec: dict[str, Any]) -> None:
    chance = random.Random(SEED)
    engine = make_engine(stack.addresses.database_url)
    kills: Counter[str] = Counter()
    spec = longer(tiny_spec)

    calm = submit(stack, {**spec, "name": "calm"}, "calm")
    deadline = time.monotonic() + PATIENCE
    while (undisturbed := ended(stack, calm)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert undisturbed["state"] == "succeeded", undisturbed["error"]
    wanted = fingerprint(engine, stack.home, "calm")

    rounds = 0
    breaks = 0
    while sum(kills.values()) < KILLS:
        name = f"shaken-{rounds}"
        rounds += 1
        run = submit(stack, {**spec, "name": name}, name)
        assert submit(stack, {**spec, "name": name}, name) == run  # sent again: the same run
        follower = Follower(f"{stack.addresses.url}/api/v1/runs/{run}/events")
        follower.start()
        deadline = time.monotonic() + PATIENCE
        while (done := ended(stack, run)) is None:
            assert time.monotonic() < deadline, "the pipeline does not end"
            time.sleep(chance.uniform(0.3, 1.5))
            if sum(kills.values()) < KILLS:
                kills[kill_one(stack, kills, chance)] += 1
        assert done["state"] == "succeeded", done["error"]
        follower.join(PATIENCE)
        breaks += follower.breaks
        check(stack, engine, run, name, wanted, follower.seen)
    assert not [run for run in rows(engine, Run) if run.lease_owner is not None]
    engine.dispose()
    summary = {"kills": sum(kills.values()), "of": dict(sorted(kills.items())), "pipelines": rounds}
    sys.stdout.write(json.dumps({**summary, "event streams taken up again": breaks}) + "\n")


def kill_one(stack: Stack, kills: Counter[str], chance: random.Random) -> str:
    """One of the parts that were killed least often so far."""
    pids = stack.pids()
    least = min(kills[name] for name in pids)
    victim = chance.choice(sorted(name for name in pids if kills[name] == least))
    os.kill(pids[victim], signal.SIGKILL)
    return victim


def check(
    stack: Stack, engine: Engine, run: str, name: str, wanted: dict[str, Any], seen: list[int]
) -> None:
    pipeline = acts.load(engine, run)
    check_library(engine, stack.settings, pipeline)
    assert fingerprint(engine, stack.home, name) == wanted
    children = [child.id for child in acts.children(engine, pipeline.id)]
    event_ids = [row.id for row in rows(engine, RunEvent) if row.run_id in {pipeline.id, *children}]
    assert seen == sorted(event_ids), "every event of the pipeline, once, in order"
