"""When a call to a judge may go out: how many at a time, how many and how much per minute.

A limit is kept by taking from a bucket that fills at a steady rate.  Whoever finds it too empty
takes all the same and waits until the debt is filled up: that keeps the order of those who wait,
and leaves no moment unused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

BURST_SECONDS = 1.0
"""A bucket holds what comes in within so long, and one call at least: after a pause no more than
that goes out at once."""


@dataclass(frozen=True)
class Rates:
    """Limits of an endpoint; None is no limit."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    """Tokens of prompts and answers together."""


class Turn:
    """One call that may go out now."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        """What it is taken to come to, until ``used`` says better."""

    def used(self, tokens: int) -> None:
        """What it came to."""
        self.tokens = tokens


class Pace(Protocol):
    """What an endpoint asks before each HTTP request."""

    def turn(self, tokens: int) -> AbstractAsyncContextManager[Turn]:
        """Waits until a call of about so many tokens may go out; its end is the call's end."""

    async def hold(self, seconds: float) -> None:
        """Nothing goes out for so long: the endpoint has asked for it."""

    async def aclose(self) -> None:
        """Lets go of whatever it holds."""


class Bucket:
    """Fills with ``rate`` per second up to ``size``; its level may be below zero."""

    def __init__(self, rate: float, size: float, now: float) -> None:
        self.rate, self.size = rate, size
        self.level, self._at = size, now

    def take(self, amount: float, now: float) -> float:
        """Takes ``amount``; the seconds until that much was there."""
        self._fill(now)
        self.level -= amount
        return max(0.0, -self.level / self.rate)

    def give(self, amount: float, now: float) -> None:
        """Gives back what was not used, or takes what was used more (negative)."""
        self._fill(now)
        self.level = min(self.size, self.level + amount)

    def _fill(self, now: float) -> None:
        self.level = min(self.size, self.level + max(0.0, now - self._at) * self.rate)
        self._at = max(self._at, now)


class LocalPace:
    """For one process: a number of calls at a time, rates, and the endpoint's own wishes.

    Bound to one event loop.
    """

    def __init__(
        self,
        concurrency: int,
        rates: Rates | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = asyncio.Semaphore(concurrency)
        self._clock = clock
        self._hold_until = 0.0
        rates = rates or Rates()
        self._requests = self._bucket(rates.requests_per_minute, 1.0)
        self._tokens = self._bucket(rates.tokens_per_minute, 0.0)

    def _bucket(self, per_minute: float | None, least: float) -> Bucket | None:
        if per_minute is None:
            return None
        rate = per_minute / 60
        return Bucket(rate, max(least, rate * BURST_SECONDS), self._clock())

    @asynccontextmanager
    async def turn(self, tokens: int) -> AsyncIterator[Turn]:
        async with self._slots:
            await asyncio.sleep(self._take(tokens))
            while (left := self._hold_until - self._clock()) > 0:
                await asyncio.sleep(left)
            turn = Turn(tokens)
            try:
                yield turn
            finally:
                if self._tokens is not None:
                    self._tokens.give(tokens - turn.tokens, self._clock())

    def _take(self, tokens: int) -> float:
        now = self._clock()
        wait = self._requests.take(1, now) if self._requests is not None else 0.0
        return max(wait, self._tokens.take(tokens, now) if self._tokens is not None else 0.0)

    async def hold(self, seconds: float) -> None:
        self._hold_until = max(self._hold_until, self._clock() + seconds)

    async def aclose(self) -> None:
        pass
