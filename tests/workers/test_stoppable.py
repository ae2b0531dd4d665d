"""Stopping asynchronous work: what it does last is done whole."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from monosemy.errors import Cancelled
from monosemy.progress import Reporter
from workers.stoppable import to_its_end, until_stopped

A_MOMENT = 0.05


def test_what_is_done_last_outlives_every_cancelling() -> None:
    did: list[str] = []

    async def last() -> None:
        await asyncio.sleep(A_MOMENT)
        did.append("last")

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(_cancelled_thrice(last()))
    assert did == ["last"]


def test_its_own_fault_comes_before_the_cancelling() -> None:
    async def last() -> None:
        await asyncio.sleep(A_MOMENT)
        raise ValueError("broke")

    with pytest.raises(ValueError, match="broke"):
        asyncio.run(_cancelled_thrice(last()))


def test_undisturbed_it_is_a_plain_wait() -> None:
    async def last() -> None:
        await asyncio.sleep(0)

    asyncio.run(to_its_end(last()))


def test_work_that_stops_itself_is_cancelled_and_still_ends_in_order() -> None:
    did: list[str] = []
    stopping = asyncio.Event()
    reporter = Reporter(lambda: Cancelled if stopping.is_set() else None)

    async def last() -> None:
        await asyncio.sleep(0.6)  # longer than until_stopped's pause
        did.append("last")

    async def work() -> None:
        stopping.set()
        try:
            reporter.check()
        except Cancelled:
            await to_its_end(last())
            raise

    with pytest.raises(Cancelled):
        asyncio.run(until_stopped(work(), reporter))
    assert did == ["last"]


async def _cancelled_thrice(last: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(to_its_end(last))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await task
