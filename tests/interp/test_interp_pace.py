"""When calls may go out, in a loop whose time passes only while everybody waits."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monosemy.interp.judging.answers import object_schema
from monosemy.interp.judging.endpoint import Limits
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.pace import Bucket, LocalPace, Rates, Turn
from monosemy.specs.parts import JudgeSpec
from tests.support.stub_server import StubServer, error, good


class PlayedLoop(asyncio.SelectorEventLoop):
    """Nobody sleeps: when all wait, the time is at once that of the next timer."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.now


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: PlayedLoop) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "everybody waits for ever"
        self.loop.now += max(0.0, timeout)
        return super().select(0)


def played(work: Callable[[PlayedLoop], Coroutine[Any, Any, None]]) -> float:
    """Runs ``work(loop)``; the seconds that passed in the loop."""
    loop = PlayedLoop()
    try:
        loop.run_until_complete(work(loop))
    finally:
        loop.close()
    return loop.now


async def calls(
    pace: LocalPace,
    clock: Callable[[], float],
    count: int,
    tokens: int = 0,
    used: int | None = None,
    took: float = 0.0,
) -> list[float]:
    """When each of ``count`` calls, all asked for at once, went out."""
    sent: list[float] = []

    async def one() -> None:
        async with pace.turn(tokens) as turn:
            sent.append(clock())
            await asyncio.sleep(took)
            turn.used(tokens if used is None else used)

    await asyncio.gather(*(one() for _ in range(count)))
    return sent


def test_requests_go_out_at_the_rate_after_the_burst() -> None:
    sent: list[float] = []

    async def work(loop: PlayedLoop) -> None:
        pace = LocalPace(1000, Rates(requests_per_minute=120), loop.time)  # 2 a second
        sent.extend(await calls(pace, loop.time, 22))

    seconds = played(work)
    assert sent[:2] == [0, 0]  # a second's worth
    assert sent[2:] == pytest.approx([0.5 * (i + 1) for i in range(20)], abs=1e-4)
    assert seconds == pytest.approx(10, abs=1e-4)  # nothing wasted: 20 calls at 2 a second


def test_what_was_not_used_serves_the_next_at_once() -> None:
    """Asked for 200 at 100 a second.  Where 100 are used, twice as many go; in flight or not."""
    whole: list[float] = []
    half: list[float] = []
    late: list[float] = []
    rates = Rates(tokens_per_minute=6000)

    async def work(loop: PlayedLoop) -> None:
        whole.extend(await calls(LocalPace(9, rates, loop.time), loop.time, 5, 200))
        begin = loop.now
        sent = await calls(LocalPace(9, rates, loop.time), loop.time, 5, 200, used=100)
        half.extend(at - begin for at in sent)
        begin = loop.now
        sent = await calls(LocalPace(9, rates, loop.time), loop.time, 5, 200, used=100, took=0.3)
        late.extend(at - begin for at in sent)

    played(work)
    assert whole == pytest.approx([0, 2, 4, 6, 8], abs=1e-4)
    assert half == pytest.approx([0, 1, 2, 3, 4], abs=1e-4)
    assert late == pytest.approx([0, 1, 2, 3, 4], abs=1e-4)


def test_an_underestimate_is_paid_by_the_next() -> None:
    sent: list[float] = []

    async def work(loop: PlayedLoop) -> None:
        pace = LocalPace(1, Rates(tokens_per_minute=6000), loop.time)
        sent.extend(await calls(pace, loop.time, 4, tokens=100, used=300))

    played(work)
    assert sent == pytest.approx([0, 3, 6, 9], abs=1e-4)


def test_a_hold_stops_everybody_and_lets_no_crowd_go() -> None:
    sent: list[float] = []

    async def work(loop: PlayedLoop) -> None:
        pace = LocalPace(100, Rates(requests_per_minute=120), loop.time)
        waiting = asyncio.ensure_future(calls(pace, loop.time, 20))
        await asyncio.sleep(0.1)
        await pace.hold(7)
        await pace.hold(3)  # a shorter one changes nothing
        sent.extend(await waiting)

    played(work)
    # Two at first; then, from the end of the hold on, as if all had just come.
    expected = [0, 0, 7.1, 7.1, *(7.1 + 0.5 * (i + 1) for i in range(16))]
    assert sent == pytest.approx(expected, abs=1e-4)


def test_a_call_that_is_given_up_takes_nothing() -> None:
    sent: list[float] = []

    async def work(loop: PlayedLoop) -> None:
        pace = LocalPace(2, Rates(tokens_per_minute=6000), loop.time)
        await calls(pace, loop.time, 1, tokens=100)
        waiting = [asyncio.ensure_future(calls(pace, loop.time, 1, tokens=100)) for _ in range(5)]
        await asyncio.sleep(0.5)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        sent.extend(await calls(pace, loop.time, 2, tokens=100))

    played(work)
    assert sent == pytest.approx([1, 2], abs=1e-4)


_STEPS = st.tuples(st.floats(0, 30), st.floats(0, 5), st.floats(-1, 1))


@given(rate=st.floats(0.5, 50), size=st.floats(0.5, 60), steps=st.lists(_STEPS, max_size=40))
def test_no_window_sees_more_than_rate_and_burst(
    rate: float, size: float, steps: list[tuple[float, float, float]]
) -> None:
    """For any calls at any times, corrected in any direction.  And none waits longer than needed:
    a hair earlier there was too little."""
    bucket = Bucket(rate, size, 0.0)
    now = 0.0
    taken: list[tuple[float, float]] = []
    for amount, pause, off in steps:
        now += pause
        wait = bucket.wait(amount, now)
        if wait > 1e-3:
            assert bucket.wait(amount, now + 0.9 * wait) > 0
        now += wait
        bucket.take(amount, now)
        used = amount * (1 + off)
        bucket.give(amount - used, now)
        assert bucket.level <= size
        taken.append((now, used))
    # The most that one call can take beyond what must be there.
    beyond = max([size, *(amount * (1 + abs(off)) for amount, _, off in steps)])
    for i in range(len(taken)):
        total = 0.0
        for at, amount in taken[i:]:
            total += amount
            assert total <= rate * (at - taken[i][0]) + size + beyond + 1e-6


@settings(deadline=None, max_examples=50)
@given(
    rate=st.integers(30, 600),
    concurrency=st.integers(1, 8),
    took=st.lists(st.floats(0, 2), min_size=1, max_size=30),
)
def test_work_waits_only_for_a_limit(rate: int, concurrency: int, took: list[float]) -> None:
    """Replayed by hand: each call goes when a slot is free and the bucket holds one, not later."""
    sent: list[float] = []

    async def work(loop: PlayedLoop) -> None:
        pace = LocalPace(concurrency, Rates(requests_per_minute=rate), loop.time)

        async def one(seconds: float) -> None:
            async with pace.turn(0):
                sent.append(loop.now)
                await asyncio.sleep(seconds)

        await asyncio.gather(*(one(seconds) for seconds in took))

    played(work)
    free = [0.0] * concurrency
    size = max(1.0, rate / 60)
    level, at = size, 0.0
    for i, seconds in enumerate(took):
        start = max(at, min(free))
        level = min(size, level + (start - at) * rate / 60)
        if level < 1:
            start += (1 - level) * 60 / rate
            level = 1.0
        level -= 1
        at = start
        assert sent[i] == pytest.approx(start, abs=1e-3)
        free.remove(min(free))
        free.append(start + seconds)


class SlowEnds(LocalPace):
    """The end of a turn takes a moment, as over a network."""

    @asynccontextmanager
    async def turn(self, tokens: int) -> AsyncIterator[Turn]:
        try:
            async with super().turn(tokens) as turn:
                yield turn
        finally:
            await asyncio.sleep(0.05)


def test_a_retry_after_holds_the_other_calls_of_the_judge_back() -> None:
    """Also the one that waits for the very place which the refused call leaves."""
    schema = object_schema({"word": {"type": "string"}})
    script = [error(429, "slow down", Retry_After="0.4"), *(good(word="a") for _ in range(4))]

    async def work(stub: StubServer) -> None:
        spec = JudgeSpec(concurrency=1)
        limits = Limits(first_wait=0.01)
        async with Judge(stub.url, None, "stub", spec, limits, pace=SlowEnds(1)) as judge:
            asked = (judge.complete_json(_asked(word), schema) for word in ("a", "b", "c"))
            await asyncio.gather(*asked)

    with StubServer(script) as stub:
        asyncio.run(work(stub))
    assert len(stub.times) == 4
    assert min(stub.times[1:]) - stub.times[0] >= 0.39


def _asked(word: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": word}]
