"""Which run goes next: priorities, paused queues, limits, under contention too."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import pytest
from sqlalchemy import Engine, text

from monosemy.errors import ConflictError
from service.database.key_tables import ApiKey
from service.database.session import transaction
from service.database.tables import Run
from service.queues.repository import change_queue
from service.runs import lifecycle, repository
from tests.support import run_acts as acts

pytestmark = pytest.mark.integration

TRAIN: dict[str, Any] = {"kind": "train"}


@pytest.fixture(autouse=True)
def nothing_there(engine: Engine) -> None:
    acts.delete_all(engine)
    with transaction(engine) as session:
        session.execute(text("DELETE FROM queues"))
        session.execute(text("DELETE FROM api_keys"))


def control(engine: Engine, queue: str = "gpu", **values: Any) -> None:
    with transaction(engine) as session:
        change_queue(session, queue, **values)


def waits(engine: Engine, queue: str = "gpu") -> bool:
    with transaction(engine) as session:
        return repository.anything_waits(session, queue)


def make_key(engine: Engine, max_running: int | None) -> uuid.UUID:
    with transaction(engine) as session:
        key = ApiKey(
            name="k", prefix="p", digest=uuid.uuid4().hex, scopes=["run"], max_running=max_running
        )
        session.add(key)
        session.flush()
        return key.id


def test_the_higher_priority_goes_first_and_the_older_of_two(engine: Engine) -> None:
    runs = [acts.submit(engine, TRAIN, priority=p) for p in (0, 5, 5, -3)]
    assert [acts.claim(engine) for _ in range(5)] == [runs[1], runs[2], runs[0], runs[3], None]


def test_a_run_can_be_put_first_with_all_its_steps(engine: Engine) -> None:
    acts.submit(engine, TRAIN)
    pipeline = acts.submit(engine, {"kind": "pipeline"})
    with transaction(engine) as session:
        lifecycle.prioritise_run(session, session.get_one(Run, pipeline), 10)
    assert {child.priority for child in acts.children(engine, pipeline)} == {10}
    assert acts.claim(engine) == acts.children(engine, pipeline)[0].id
    acts.cancel(engine, pipeline)
    run = acts.submit(engine, TRAIN)
    acts.cancel(engine, run)
    with transaction(engine) as session, pytest.raises(ConflictError, match="cancelled already"):
        lifecycle.prioritise_run(session, session.get_one(Run, run), 1)


def test_a_paused_queue_starts_nothing_and_ends_what_it_has(engine: Engine) -> None:
    going, _ = acts.submit(engine, TRAIN), acts.submit(engine, TRAIN)
    assert acts.claim(engine) == going
    control(engine, paused=True)
    assert not waits(engine) and acts.claim(engine) is None
    score = acts.submit(engine, {"kind": "score", "sae": "s"})
    assert acts.claim(engine, "interp") == score, "other queues go on"
    acts.succeed(engine, going)
    lost = acts.submit(engine, TRAIN, priority=9)
    control(engine, paused=False)
    assert waits(engine) and acts.claim(engine) == lost
    control(engine, paused=True)
    acts.expire(engine, lost)
    assert acts.claim(engine, owner="two") is None, "not even a lost one is taken up"
    acts.cancel(engine, lost)
    acts.expire(engine, lost)
    assert acts.claim(engine, owner="two") is None
    assert acts.load(engine, lost).state == "cancelled", "what was being cancelled ends"


def test_a_full_queue_waits_and_a_lost_run_counts_once(engine: Engine) -> None:
    control(engine, max_running=2)
    runs = [acts.submit(engine, TRAIN) for _ in range(3)]
    assert [acts.claim(engine) for _ in range(3)] == [runs[0], runs[1], None]
    assert not waits(engine)
    acts.expire(engine, runs[0])
    assert waits(engine) and acts.claim(engine, owner="two") == runs[0]
    assert acts.claim(engine, owner="two") is None
    acts.succeed(engine, runs[1])
    assert acts.claim(engine) == runs[2]
    control(engine, max_running=None)


def test_a_keys_limit_lets_others_pass(engine: Engine) -> None:
    key, free = make_key(engine, 1), make_key(engine, None)
    mine = [acts.submit(engine, TRAIN, created_by=key) for _ in range(2)]
    others = [acts.submit(engine, TRAIN, created_by=owner) for owner in (free, None)]
    assert [acts.claim(engine) for _ in range(4)] == [mine[0], *others, None]
    score = acts.submit(engine, {"kind": "score", "sae": "s"}, created_by=key)
    assert acts.claim(engine, "interp") is None, "the key's limit holds over all queues"
    acts.succeed(engine, mine[0])
    assert acts.claim(engine, "interp") == score
    assert acts.claim(engine) is None
    acts.succeed(engine, score)
    assert acts.claim(engine) == mine[1]
    # A pipeline is not counted beside its own step.
    acts.succeed(engine, mine[1])
    pipeline = acts.submit(engine, {"kind": "pipeline"}, created_by=key)
    assert acts.claim(engine) == acts.children(engine, pipeline)[0].id


def test_many_workers_never_pass_a_limit(engine: Engine) -> None:
    """What is checked is the count that each worker sees while it holds a run.  Whoever is first
    holds its run until another has one too, or a busy machine would never let two overlap."""
    control(engine, max_running=3)
    key = make_key(engine, 2)
    for number in range(40):
        acts.submit(engine, TRAIN, created_by=key if number % 2 else None)
    most, most_of_key, ended = [0], [0], [0]
    lock, overlapped = threading.Lock(), threading.Event()
    until = time.monotonic() + 60

    def work(owner: str) -> None:
        while ended[0] < 40 and time.monotonic() < until:
            run = acts.claim(engine, owner=owner)
            if run is None:
                time.sleep(0.005)
                continue
            with transaction(engine) as session:
                query = "SELECT created_by FROM runs WHERE state = 'running'"
                owners = [row[0] for row in session.execute(text(query))]
            with lock:
                most[0] = max(most[0], len(owners))
                most_of_key[0] = max(most_of_key[0], owners.count(key))
            if len(owners) > 1:
                overlapped.set()
            overlapped.wait(30)
            acts.succeed(engine, run, owner)
            with lock:
                ended[0] += 1

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended[0] == 40
    assert 1 < most[0] <= 3 and most_of_key[0] <= 2
