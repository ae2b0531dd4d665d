"""One judge's limits over several workers, on a real Valkey."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from monosemy.interp.judging.answers import object_schema
from monosemy.interp.judging.endpoint import Limits
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.pace import LocalPace, Rates
from monosemy.specs.parts import JudgeSpec
from service.stack.valkey import EmbeddedValkey
from tests.support.stub_server import StubServer, error, good
from workers import pace as shared
from workers.pace import RedisPace

pytestmark = pytest.mark.integration

BUSY = 2.0
"""How often as long as on an idle machine it may take: others may be using this one."""
LATE = 0.3
"""Seconds by which a process may be late to say what it did."""

ENDPOINT = "http://judge.test/v1 model"


def make(
    url: str,
    rates: Rates | None = None,
    places: int | None = None,
    own: int = 100,
    lease: float = 10.0,
) -> RedisPace:
    rates = rates or Rates()
    alone = LocalPace(places or 100, rates)
    return RedisPace(url, ENDPOINT, rates, places, LocalPace(own), alone, lease)


async def one(
    pace: RedisPace, sent: list[float], tokens: int = 0, used: int = 0, took: float = 0.0
) -> None:
    async with pace.turn(tokens) as turn:
        sent.append(time.monotonic())
        await asyncio.sleep(took)
        turn.used(used)


_WORKER = """
import asyncio, sys, time
from monosemy.interp.judging.pace import LocalPace, Rates
from workers.pace import RedisPace

url, endpoint, rate, places, lease, count, took = sys.argv[1:]
rates = Rates(float(rate) or None)
places = int(places) or None

async def one(pace):
    async with pace.turn(0):
        print("in", time.time(), flush=True)
        await asyncio.sleep(float(took))

async def work():
    pace = RedisPace(
        url, endpoint, rates, places, LocalPace(100), LocalPace(100, rates), float(lease)
    )
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*(one(pace) for _ in range(int(count))))
    await pace.aclose()

asyncio.run(work())
"""


@contextmanager
def worker(
    url: str,
    *,
    rate: float = 0,
    places: int = 0,
    lease: float = 10.0,
    count: int = 1,
    took: float = 0.0,
) -> Iterator[subprocess.Popen[str]]:
    """A process that waits for a line, then prints when each of its calls went out."""
    arguments = [url, ENDPOINT, *map(str, (rate, places, lease, count, took))]
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def begin(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_processes_share_a_rate_and_use_all_of_it(redis_url: str) -> None:
    """20 a second, 20 at once."""
    with (
        worker(redis_url, rate=1200, count=40) as first,
        worker(redis_url, rate=1200, count=40) as second,
    ):
        begin(first)
        begin(second)
        each = [process.communicate(timeout=30)[0] for process in (first, second)]
    times = [[float(line.split()[1]) for line in out.splitlines()] for out in each]
    sent = sorted(times[0] + times[1])
    assert len(sent) == 80
    # 20 at once and 60 at 20 a second are 3 s; never less.
    assert 2.95 <= sent[-1] - sent[0] <= 3 * BUSY
    for i, start in enumerate(sent):
        for j in range(i, len(sent)):
            # Between the script's clock and the print of the other process lies some time.
            assert j - i + 1 <= 20 + 20 * (sent[j] - start + LATE)
    # Both wait all the time, so both get half of what comes in after the burst.
    middle = [sum(sent[0] + 0.3 < at < sent[0] + 1.3 for at in ours) for ours in times]
    assert abs(middle[0] - middle[1]) <= 8


@pytest.mark.parametrize("asked", [100, 300])
def test_tokens_are_shared_and_counted_as_used(redis_url: str, asked: int) -> None:
    """1,000 a second and 1,000 at once; 100 used by each call, whatever was thought before."""
    sent: list[float] = []

    async def work() -> None:
        rates = Rates(tokens_per_minute=60_000)
        workers = [make(redis_url, rates, own=10) for _ in range(2)]
        await asyncio.gather(
            *(one(worker, sent, asked, used=100) for worker in workers for _ in range(20))
        )
        for worker in workers:
            await worker.aclose()

    asyncio.run(work())
    # 4,000 tokens, of which 1,000 are there; the last call waits for all that it asks for.
    least = 3.0 + (asked - 100) / 1000
    assert least - 0.05 <= max(sent) - min(sent) <= least * BUSY


def test_places_are_shared_and_never_idle_and_no_worker_starves(redis_url: str) -> None:
    """One worker has all places and a long line of calls before the other comes."""
    under_way = most = 0
    done: list[int] = []

    async def busy(pace: RedisPace, number: int, end: float) -> None:
        nonlocal under_way, most
        while time.monotonic() < end:
            async with pace.turn(0):
                under_way += 1
                most = max(most, under_way)
                await asyncio.sleep(0.1)
                under_way -= 1
                if time.monotonic() < end:
                    done.append(number)

    async def work() -> None:
        first, second = make(redis_url, places=4), make(redis_url, places=4)
        end = time.monotonic() + 3.2
        early = [asyncio.create_task(busy(first, 1, end)) for _ in range(20)]
        await asyncio.sleep(0.2)
        late = [asyncio.create_task(busy(second, 2, end)) for _ in range(3)]
        await asyncio.gather(*early, *late)
        await first.aclose()
        await second.aclose()

    asyncio.run(work())
    assert most == 4
    # 4 at a time of 100 ms, for 3.2 s, are 128.
    assert len(done) >= 128 / BUSY
    # Half where it always waits; with 3 callers it does not quite.
    assert done.count(2) >= 0.25 * len(done)


def test_a_large_call_is_not_passed_by_small_ones_for_ever(redis_url: str) -> None:
    """1,000 tokens a second and at once; small calls alone could keep the bucket low for 3 s."""

    async def work() -> float:
        rates = Rates(tokens_per_minute=60_000)
        small, large = make(redis_url, rates), make(redis_url, rates)
        crowd = [asyncio.create_task(one(small, [], 50, used=50)) for _ in range(80)]
        await asyncio.sleep(0.2)
        begin = time.monotonic()
        await one(large, [], 1000, used=1000)
        took = time.monotonic() - begin
        await asyncio.gather(*crowd)
        await small.aclose()
        await large.aclose()
        return took

    # Behind one small call, then until the bucket is full.
    assert 0.8 <= asyncio.run(work()) <= 2.5


def test_limits_at_once_leave_no_gap_where_each_holds_in_turn(redis_url: str) -> None:
    """Rate and places together: places free up early, the rate alone decides."""
    sent: list[float] = []

    async def work() -> None:
        rates = Rates(requests_per_minute=1200)
        workers = [make(redis_url, rates, places=10) for _ in range(3)]
        tasks = [one(worker, sent, took=0.1) for worker in workers for _ in range(20)]
        await asyncio.gather(*tasks)
        for worker in workers:
            await worker.aclose()

    asyncio.run(work())
    # 60 calls, 20 at once (in two goes of 10 places), 40 at 20 a second.
    assert 1.95 <= max(sent) - min(sent) <= 2 * BUSY


def test_a_hold_of_one_holds_the_other(redis_url: str) -> None:
    sent: list[float] = []

    async def work() -> float:
        first, second = make(redis_url), make(redis_url)
        begin = time.monotonic()
        await first.hold(0.6)
        await one(second, sent)
        await first.aclose()
        await second.aclose()
        return begin

    begin = asyncio.run(work())
    assert 0.55 <= sent[0] - begin <= 0.6 * BUSY + 1


def test_no_crowd_is_let_go_when_a_hold_ends(redis_url: str) -> None:
    sent: list[float] = []

    async def work() -> float:
        workers = [make(redis_url, Rates(requests_per_minute=600)) for _ in range(2)]
        tasks = [asyncio.create_task(one(worker, sent)) for worker in workers for _ in range(25)]
        while len(sent) < 10:  # the crowd that may go at once
            await asyncio.sleep(0.005)
        await workers[0].hold(1.5)
        end = time.monotonic() + 1.5
        await asyncio.gather(*tasks)
        for worker in workers:
            await worker.aclose()
        return end

    end = asyncio.run(work())
    assert sum(at < end - 1.45 for at in sent) in (10, 11, 12)  # what went before the hold
    assert not [at for at in sent if end - 1.45 <= at < end - 0.02]
    assert sum(end - 0.02 <= at < end + 0.05 for at in sent) <= 11 + 10 * LATE


def test_the_place_of_a_killed_worker_comes_back(redis_url: str) -> None:
    sent: list[float] = []

    async def work(process: subprocess.Popen[str]) -> None:
        pace = make(redis_url, places=1, lease=1.0)
        waiting = asyncio.create_task(one(pace, sent))
        await asyncio.sleep(1.3)
        assert not sent, "a living worker keeps its place"
        process.kill()
        await asyncio.wait_for(waiting, 5)
        await pace.aclose()

    with worker(redis_url, places=1, lease=1.0, took=60) as process:
        begin(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("in")
        time.sleep(1.5)  # its lease has been renewed since
        asyncio.run(work(process))
    assert len(sent) == 1


def test_a_worker_killed_in_line_holds_nobody_up(redis_url: str) -> None:
    sent: list[float] = []

    async def work(process: subprocess.Popen[str]) -> None:
        holder, behind = make(redis_url, places=1), make(redis_url, places=1)
        holding = asyncio.create_task(one(holder, [], took=1.0))
        await asyncio.sleep(0.1)
        begin(process)
        await asyncio.sleep(0.5)
        waiting = asyncio.create_task(one(behind, sent))
        await asyncio.sleep(0.1)
        process.kill()
        await asyncio.wait_for(asyncio.gather(holding, waiting), 4)
        await holder.aclose()
        await behind.aclose()

    with worker(redis_url, places=1) as process:
        asyncio.run(work(process))
        assert process.stdout is not None
        assert process.stdout.read() == "", "it was killed while it waited"
    assert len(sent) == 1


def test_calls_given_up_leave_neither_place_nor_rank(redis_url: str) -> None:
    sent: list[float] = []

    async def work() -> None:
        first, second = make(redis_url, places=1), make(redis_url, places=1)
        holding = asyncio.create_task(one(first, [], took=60))
        await asyncio.sleep(0.1)
        waiting = [asyncio.create_task(one(pace, [])) for pace in (first, second, second)]
        await asyncio.sleep(0.1)
        for task in (holding, *waiting):
            task.cancel()
        await asyncio.gather(holding, *waiting, return_exceptions=True)
        begin = time.monotonic()
        await one(second, sent)
        await one(first, sent)
        assert time.monotonic() - begin < 10  # the one given up would have taken 60 s
        await first.aclose()
        await second.aclose()

    asyncio.run(work())
    assert len(sent) == 2


def test_a_flush_and_an_absence_cost_nothing_but_the_sharing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "_AWAY_SECONDS", 0.3)
    sent: list[float] = []
    rates = Rates(requests_per_minute=6000)

    async def batch(pace: RedisPace, count: int) -> None:
        await asyncio.wait_for(asyncio.gather(*(one(pace, sent) for _ in range(count))), 10)

    async def work(server: EmbeddedValkey) -> None:
        pace = make(server.url, rates, places=5)
        await batch(pace, 10)
        holding = asyncio.create_task(one(pace, sent, took=0.4))
        await asyncio.sleep(0.1)
        client = redis.Redis.from_url(server.url)
        client.flushall()
        client.script_flush()
        await batch(pace, 10)
        await holding
        server.stop()
        await batch(pace, 10)
        server.start()
        await asyncio.sleep(1.0)
        await batch(pace, 10)
        await pace.aclose()

    with EmbeddedValkey(tmp_path / "valkey") as server, caplog.at_level(logging.WARNING):
        asyncio.run(work(server))
    assert len(sent) == 41
    messages = [record.message for record in caplog.records if record.name == "workers.pace"]
    assert len(messages) == 2
    assert messages[0].startswith("Redis is away")
    assert messages[1].startswith("Redis is back")


def test_a_server_that_hangs_delays_the_work_once(tmp_path: Path) -> None:
    sent: list[float] = []

    async def work(server: EmbeddedValkey, pid: int) -> float:
        pace = make(server.url, places=2)
        await one(pace, sent)
        os.kill(pid, signal.SIGSTOP)
        begin = time.monotonic()
        await asyncio.gather(*(one(pace, sent, took=0.5) for _ in range(20)))
        took = time.monotonic() - begin
        await pace.aclose()
        return took

    with EmbeddedValkey(tmp_path / "valkey") as server:
        pid = int(redis.Redis.from_url(server.url).info("server")["process_id"])
        try:
            took = asyncio.run(work(server, pid))
        finally:
            os.kill(pid, signal.SIGCONT)
    assert len(sent) == 21
    # 10 rounds of 0.5 s, after one command has waited 2 s in vain; not after each has.
    assert took < (5 + 2) * BUSY


def test_a_retry_after_of_one_worker_holds_the_calls_of_another(redis_url: str) -> None:
    schema = object_schema({"word": {"type": "string"}})
    script = [good(word="a"), error(429, "slow down", Retry_After="0.8")]
    script += [good(word="a") for _ in range(4)]

    async def work(stub: StubServer) -> None:
        limits, spec = Limits(first_wait=0.01), JudgeSpec(concurrency=1)
        judges = [
            Judge(stub.url, None, "stub", spec, limits, pace=make(redis_url, own=1))
            for _ in range(2)
        ]

        async def ask(judge: Judge, word: str) -> None:
            await judge.complete_json([{"role": "user", "content": word}], schema)

        await ask(judges[1], "has been there before")
        refused = asyncio.create_task(ask(judges[0], "first"))
        while len(stub.times) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        await asyncio.gather(refused, *(ask(judges[1], word) for word in "abc"))
        for judge in judges:
            await judge.aclose()

    with StubServer(script) as stub:
        asyncio.run(work(stub))
    assert len(stub.times) == 6
    assert min(stub.times[2:]) - stub.times[1] >= 0.79
