"""Stopping asynchronous work that waits for somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from monosemy.errors import Stopped
from monosemy.progress import Reporter

_SECONDS = 0.25

T = TypeVar("T")


async def until_stopped(work: Coroutine[Any, Any, T], reporter: Reporter) -> T:
    """The result of ``work``; cancels it, calls under way included, once it is to stop.

    A judge may take minutes over one answer, longer than a worker has to end.  Raises what
    ``work`` raises, and ``Stopped``.
    """
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_SECONDS)
            if not task.done():
                reporter.check()
    except Stopped:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
    return task.result()


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Does ``work`` whole, for what has to be put in order although this task is to stop.

    Work that stops by a check of its own is cancelled a moment later by ``until_stopped``, in the
    middle of what it does last.  ``work`` has to bound its own time.  Raises what ``work`` raises,
    and ``CancelledError`` after it.
    """
    task = asyncio.create_task(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})  # which leaves the task alone where the waiting is cancelled
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
