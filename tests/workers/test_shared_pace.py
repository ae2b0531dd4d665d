"""One judge's limits over several workers, on a real Valkey."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import redis

from monosemy.interp.judging.pace import LocalPace, Rates
from service.stack.valkey import EmbeddedValkey
from workers import pace as shared
from workers.pace import RedisPace

pytestmark = pytest.mark.integration

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


async def one(pace: RedisPace, sent: list[float], tokens: int = 0, took: float = 0.0) -> None:
    async with pace.turn(tokens) as turn:
        sent.append(time.monotonic())
        await asyncio.sleep(took)
        turn.used(tokens)


def test_two_workers_share_a_rate_and_use_all_of_it(redis_url: str) -> None:
    sent: list[float] = []

    async def work() -> None:
        rates = Rates(requests_per_minute=1200)  # 20 a second, 20 at once
        workers = [make(redis_url, rates) for _ in range(2)]
        await asyncio.gather(*(one(worker, sent) for worker in workers for _ in range(40)))
        for worker in workers:
            await worker.aclose()

    asyncio.run(work())
    sent.sort()
    # 80 calls: 20 at once, 60 at 20 a second.
    assert 2.9 <= sent[-1] - sent[0] <= 3.3
    for i, start in enumerate(sent):
        inside = sum(start <= at < start + 1 for at in sent[i:])
        assert inside <= 41, "rate and burst together allow 40 in a second"


def test_tokens_are_shared_too(redis_url: str) -> None:
    sent: list[float] = []

    async def work() -> None:
        rates = Rates(tokens_per_minute=60_000)  # 1,000 a second
        workers = [make(redis_url, rates, own=5) for _ in range(2)]
        tasks = [one(worker, sent, tokens=100) for worker in workers for _ in range(20)]
        await asyncio.gather(*tasks)
        for worker in workers:
            await worker.aclose()

    asyncio.run(work())
    # 4,000 tokens, of which 1,000 are there.
    assert 2.8 <= max(sent) - min(sent) <= 3.5


def test_places_are_shared_and_never_idle(redis_url: str) -> None:
    under_way = most = 0

    async def busy(pace: RedisPace) -> None:
        nonlocal under_way, most
        async with pace.turn(0):
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.05)
            under_way -= 1

    async def work() -> float:
        workers = [make(redis_url, places=4) for _ in range(3)]
        begin = time.monotonic()
        await asyncio.gather(*(busy(worker) for worker in workers for _ in range(20)))
        took = time.monotonic() - begin
        for worker in workers:
            await worker.aclose()
        return took

    took = asyncio.run(work())
    assert most == 4
    # 60 calls of 50 ms, 4 at a time, are 0.75 s; looking for a place costs a bit.
    assert took < 1.6


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
    assert 0.55 <= sent[0] - begin <= 1.0


def test_the_place_of_a_killed_worker_comes_back(redis_url: str) -> None:
    script = textwrap.dedent(
        f"""
        import asyncio
        from monosemy.interp.judging.pace import LocalPace, Rates
        from workers.pace import RedisPace
        async def work():
            own, alone = LocalPace(1), LocalPace(1)
            pace = RedisPace({redis_url!r}, {ENDPOINT!r}, Rates(), 1, own, alone, 1.0)
            async with pace.turn(0):
                print("in", flush=True)
                await asyncio.sleep(60)
        asyncio.run(work())
        """
    )
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    time.sleep(1.5)  # its lease has been renewed since
    sent: list[float] = []

    async def work() -> None:
        pace = make(redis_url, places=1, lease=1.0)
        waiting = asyncio.create_task(one(pace, sent))
        await asyncio.sleep(1.3)
        assert not sent, "a living worker keeps its place"
        process.kill()
        await asyncio.wait_for(waiting, 5)
        await pace.aclose()

    try:
        asyncio.run(work())
    finally:
        process.kill()
        process.wait()
    assert len(sent) == 1


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
        redis.Redis.from_url(server.url).flushall()
        await batch(pace, 10)
        await holding
        server.stop()
        await batch(pace, 10)
        server.start()
        await asyncio.sleep(0.4)
        await batch(pace, 10)
        await pace.aclose()

    with EmbeddedValkey(tmp_path / "valkey") as server, caplog.at_level(logging.WARNING):
        asyncio.run(work(server))
    assert len(sent) == 41
    told = [record.message for record in caplog.records if record.name == "workers.pace"]
    assert len(told) == 2
    assert told[0].startswith("Redis is away")
    assert told[1].startswith("Redis is back")
