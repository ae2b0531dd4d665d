"""Places for calls that take long: so many at a time, in fair turns, with a short queue.

A slow call holds a place and a thread of its own kind.  What answers quickly, health before all,
shares neither with it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from service.kit.errors import Busy

T = TypeVar("T")

WAIT_SECONDS = 30.0
"""Longest wait for a place; after it the caller is asked to come back."""


class Lane:
    """Threads for one kind of work; whoever finds all of them taken waits without a thread."""

    def __init__(self, threads: int) -> None:
        self._limiter = CapacityLimiter(threads)

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns; it has a thread to itself."""
        return await to_thread.run_sync(work, limiter=self._limiter)


class Places:
    """``total`` places and a queue of ``queue``, shared fairly by holders (API keys).

    One holder gets at most three quarters of the places and of the queue (at least one), so that
    something is left for others; waiting holders take turns.  A holder of None (open mode, where
    all callers are one) may have all.  Belongs to one event loop.
    """

    def __init__(
        self, what: str, total: int, queue: int, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        """``what``: names the work, for the refusal."""
        self.what, self.total, self.queue = what, total, queue
        self.wait_seconds = wait_seconds
        self._held: Counter[Hashable] = Counter()
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()
        self._lane = Lane(total)

    @property
    def taken(self) -> int:
        return sum(self._held.values())

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, in a thread of these places; for who holds one."""
        return await self._lane.run(work)

    @asynccontextmanager
    async def hold(self, holder: Hashable) -> AsyncIterator[None]:
        """A place for the block.  Raises ``Busy`` when the queue is full, for this holder
        or for all, and when no place was free in time."""
        await self._take(holder)
        try:
            yield
        finally:
            self._give_back(holder)

    def _share(self, holder: Hashable, of: int) -> int:
        return of if holder is None else max(1, of - max(1, of // 4))

    def _may_take(self, holder: Hashable) -> bool:
        return self.taken < self.total and self._held[holder] < self._share(holder, self.total)

    async def _take(self, holder: Hashable) -> None:
        # Whoever could take a free place has been given it: none of those who wait is passed by.
        if self._may_take(holder):
            self._held[holder] += 1
            return
        own = len(self._waiting.get(holder, ()))
        if self.waiting >= self.queue or own >= self._share(holder, self.queue):
            raise Busy(self.what)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(holder, deque()).append(turn)
        try:
            async with asyncio.timeout(self.wait_seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._give_back(holder)  # it was given the place at this very moment
            self._leave_queue(holder, turn)
            if isinstance(error, TimeoutError):
                raise Busy(self.what) from None
            raise

    def _leave_queue(self, holder: Hashable, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(holder)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[holder]

    def _give_back(self, holder: Hashable) -> None:
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]
        while self._next_turn():
            continue

    def _next_turn(self) -> bool:
        """Gives a free place to the first holder in turn that may take it; False if none may."""
        for holder, queue in self._waiting.items():
            if not self._may_take(holder):
                continue
            turn = queue.popleft()
            del self._waiting[holder]
            if queue:
                self._waiting[holder] = queue  # behind the others
            if not turn.done():  # else whoever waited has just gone
                self._held[holder] += 1
                turn.set_result(None)
            return True
        return False
