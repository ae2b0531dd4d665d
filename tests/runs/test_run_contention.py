"""Workers and people at the same runs at the same time: nobody waits for anybody in a circle."""

from __future__ import annotations

import random
import threading
import time
import uuid
from contextlib import suppress
from itertools import pairwise

import pytest
from sqlalchemy import Engine

from monosemy.errors import ConflictError
from monosemy.specs.run_states import ENDED
from service.database.session import make_engine, transaction
from service.runs import repository
from service.runs.lifecycle import ALLOWED, LostLease
from tests.support import run_acts as acts

pytestmark = pytest.mark.integration

SECONDS, LONGEST = 4.0, 120.0
"""They act for so long, and on a busy machine longer, until each role has done enough."""
ROLES, ENOUGH = ("work", "cancel", "retry"), 10
PIPELINE = {"kind": "pipeline"}


class Crowd:
    """Threads that act until the time is over and enough is done; ``faults`` holds what no caller
    should meet."""

    def __init__(self, engine: Engine, pipelines: list[uuid.UUID]) -> None:
        self.engine, self.pipelines = engine, pipelines
        self.began = time.monotonic()
        self.faults: list[BaseException] = []
        self.done: dict[str, int] = {}

    def over(self) -> bool:
        spent = time.monotonic() - self.began
        enough = all(self.done.get(role, 0) > ENOUGH for role in ROLES)
        return bool(self.faults) or spent > LONGEST or (spent > SECONDS and enough)

    def act(self, role: str, seed: int) -> None:
        chance = random.Random(seed)
        try:
            while not self.over():
                with suppress(LostLease, ConflictError):
                    getattr(self, role)(chance, f"{role} {seed}")
                    self.done[role] = self.done.get(role, 0) + 1
        except BaseException as error:
            self.faults.append(error)

    def work(self, chance: random.Random, owner: str) -> None:
        queue = chance.choice(("gpu", "gpu", "interp"))
        run = acts.claim(self.engine, queue, owner, lease=0.05 if chance.random() < 0.1 else 30.0)
        if run is None:
            return
        # In transactions of their own, as workers report.
        for record in (repository.record_progress, repository.record_stage, repository.record_log):
            with transaction(self.engine) as session:
                record(session, run, owner, {"stage": "a", "done": 1})
        with transaction(self.engine) as session:
            repository.renew_lease(session, run, owner, 30.0)
        end = chance.random()
        if end < 0.6:
            acts.succeed(self.engine, run, owner, sae_id="abc")
        elif end < 0.8:
            acts.fail(self.engine, run, owner, retryable=end < 0.7)
        else:
            acts.release(self.engine, run, owner)

    def cancel(self, chance: random.Random, owner: str) -> None:
        acts.cancel(self.engine, self._any(chance))
        time.sleep(0.02)

    def retry(self, chance: random.Random, owner: str) -> None:
        acts.retry(self.engine, self._any(chance))
        time.sleep(0.01)

    def _any(self, chance: random.Random) -> uuid.UUID:
        parent = chance.choice(self.pipelines)
        if chance.random() < 0.5:
            return parent
        return uuid.UUID(str(chance.choice(acts.children(self.engine, parent)).id))


def test_a_crowd_at_the_same_pipelines(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=10)
    acts.delete_all(engine)
    pipelines = [acts.submit(engine, PIPELINE) for _ in range(3)]
    crowd = Crowd(engine, pipelines)
    roles = ["work"] * 4 + ["cancel", "cancel", "retry", "retry"]
    threads = [
        threading.Thread(target=crowd.act, args=(role, seed)) for seed, role in enumerate(roles)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * LONGEST)
    assert not any(thread.is_alive() for thread in threads)
    assert crowd.faults == []
    assert min(crowd.done.get(role, 0) for role in ROLES) > ENOUGH
    for parent in pipelines:
        runs, history = acts.family(engine, parent)
        for run in runs:
            for before, event in pairwise(history[run.id]):
                assert event["from"] == before["state"]
                assert event["state"] in ALLOWED[event["from"]]
            assert run.state == history[run.id][-1]["state"]
        assert (runs[0].state in ENDED) == all(run.state in ENDED for run in runs[1:])
    engine.dispose()
