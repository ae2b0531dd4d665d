"""When calls may go out, on a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub_server import StubServer, error, good

from monosemy.interp.judging.answers import object_schema
from monosemy.interp.judging.endpoint import Limits
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.pace import Bucket, LocalPace, Rates
from monosemy.specs.parts import JudgeSpec


class Clock:
    """Time that passes only when everybody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        self._sleepers.append((self.now + max(0.0, seconds), len(self._sleepers), event))
        await event.wait()

    async def run(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        while not task.done():
            for _ in range(50):
                await real_sleep(0)
            if self._sleepers and not task.done():
                self._sleepers.sort(key=lambda entry: entry[:2])
                at, _, event = self._sleepers.pop(0)
                self.now = max(self.now, at)
                event.set()
        await task


real_sleep = asyncio.sleep


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Clock]:
    """Runs ``work(clock)`` to its end in no time."""

    def play(work: Callable[[Clock], Coroutine[Any, Any, Any]]) -> Clock:
        clock = Clock()
        monkeypatch.setattr("monosemy.interp.judging.pace.asyncio.sleep", clock.sleep)
        try:
            asyncio.run(clock.run(work(clock)))
        finally:
            monkeypatch.undo()
        return clock

    return play


async def calls(
    pace: LocalPace, clock: Clock, count: int, tokens: int = 0, used: int | None = None
) -> list[float]:
    """When each of ``count`` calls, all asked for at once, went out."""
    sent: list[float] = []

    async def one() -> None:
        async with pace.turn(tokens) as turn:
            sent.append(clock.now)
            if used is not None:
                turn.used(used)

    await asyncio.gather(*(one() for _ in range(count)))
    return sent


def test_requests_go_out_at_the_rate_after_the_burst(played: Any) -> None:
    sent: list[float] = []

    async def work(clock: Clock) -> None:
        pace = LocalPace(1000, Rates(requests_per_minute=120), clock)  # 2 a second
        sent.extend(await calls(pace, clock, 22))

    clock = played(work)
    assert sent == sorted(sent)
    assert sent[:2] == [0, 0]  # a second's worth
    assert sent[2:] == pytest.approx([0.5 * (i + 1) for i in range(20)])
    assert clock.now == pytest.approx(10)  # nothing wasted: 20 calls at 2 a second


def test_tokens_are_counted_as_they_were_used(played: Any) -> None:
    first: list[float] = []
    second: list[float] = []

    async def work(clock: Clock) -> None:
        rates = Rates(tokens_per_minute=6000)  # 100 a second
        first.extend(await calls(LocalPace(1, rates, clock), clock, 5, tokens=200))
        await clock.sleep(100)
        begin = clock.now
        halved = await calls(LocalPace(1, rates, clock), clock, 5, tokens=200, used=100)
        second.extend(at - begin for at in halved)

    played(work)
    # 100 are there at first; each call waits until its own 200 have come in.
    assert first == pytest.approx([1, 3, 5, 7, 9])
    assert second == pytest.approx([1, 2, 3, 4, 5])


def test_a_hold_stops_everybody(played: Any) -> None:
    sent: list[float] = []

    async def work(clock: Clock) -> None:
        pace = LocalPace(10, Rates(), clock)
        await pace.hold(7)
        await pace.hold(3)  # a shorter one changes nothing
        sent.extend(await calls(pace, clock, 3))

    played(work)
    assert sent == [7, 7, 7]


@given(
    rate=st.floats(0.5, 50),
    amounts=st.lists(st.tuples(st.floats(0, 30), st.floats(0, 5)), min_size=1, max_size=40),
)
def test_no_window_sees_more_than_rate_and_burst(
    rate: float, amounts: list[tuple[float, float]]
) -> None:
    """In any stretch of time at most rate x time + size goes out after its first call."""
    bucket = Bucket(rate, rate, 0.0)
    now, sent = 0.0, []
    for amount, pause in amounts:
        now += pause
        sent.append((now + bucket.take(amount, now), amount))
    times = [at for at, _ in sent]
    assert all(b >= a - 1e-9 for a, b in pairwise(times))
    for i in range(len(sent)):
        total = 0.0
        for j in range(i, len(sent)):
            total += sent[j][1]
            window = sent[j][0] - sent[i][0]
            assert total - sent[i][1] <= rate * window + bucket.size + 1e-6


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 20)), max_size=30))
def test_what_is_given_back_never_overfills(steps: list[tuple[float, float]]) -> None:
    bucket = Bucket(2.0, 10.0, 0.0)
    now = 0.0
    for amount, pause in steps:
        now += pause
        bucket.give(amount, now)
        assert bucket.level <= 10.0


def test_a_retry_after_holds_the_other_calls_of_the_judge_back() -> None:
    schema = object_schema({"word": {"type": "string"}})
    script = [error(429, "slow down", Retry_After="0.4"), good(word="a"), good(word="b")]

    async def work(stub: StubServer) -> None:
        spec = JudgeSpec(concurrency=2)
        async with Judge(stub.url, None, "stub", spec, Limits(first_wait=0.01)) as judge:
            first = asyncio.create_task(judge.complete_json(_asked("one"), schema))
            while not stub.times:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            await asyncio.gather(first, judge.complete_json(_asked("two"), schema))

    with StubServer(script) as stub:
        asyncio.run(work(stub))
    assert len(stub.times) == 3
    assert min(stub.times[1:]) - stub.times[0] >= 0.39


def _asked(word: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": word}]
