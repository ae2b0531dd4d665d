"""When a call to a judge may go out: how many at a time, how many and how much per minute.

A limit is kept by taking from a bucket that fills at a steady rate.  Those who wait stand in line,
and only the first looks at the buckets; it takes when it goes, not before.  So nothing is reserved:
what a call gives back serves the next at once, and calls do not burst when a hold ends.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

BURST_SECONDS = 1.0
"""A bucket holds what comes in within so long, and one call at least: after a pause no more than
that goes out at once."""
_AT_ONCE = 1e-6
"""Seconds that are no wait: rounding must not send anyone round and round."""


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
        """Estimated tokens, until ``used`` reports them."""

    def used(self, tokens: int) -> None:
        """Reports the tokens really used."""
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
    """Fills with ``rate`` per second up to ``size``; its level may be below zero.

    In any stretch of ``w`` seconds at most ``rate * w`` and the larger of ``size`` and the last
    amount are taken.
    """

    def __init__(self, rate: float, size: float, now: float) -> None:
        self.rate, self.size = rate, size
        self.level, self._at = size, now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` may be taken: a full bucket is enough for any."""
        self._fill(now)
        return max(0.0, min(amount, self.size) - self.level) / self.rate

    def take(self, amount: float, now: float) -> None:
        """Takes ``amount``, into debt where it is more than there is."""
        self._fill(now)
        self.level -= amount

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
        self._first = asyncio.Lock()
        self._given = asyncio.Event()
        self._clock = clock
        self._hold_until = -math.inf
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
            async with self._first:
                while (wait := self._wait(tokens)) > _AT_ONCE:
                    self._given.clear()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._given.wait(), wait)
                self._take(tokens)
            turn = Turn(tokens)
            try:
                yield turn
            finally:
                if self._tokens is not None:
                    self._tokens.give(tokens - turn.tokens, self._clock())
                    self._given.set()

    def _wait(self, tokens: int) -> float:
        now = self._clock()
        waits = [self._hold_until - now]
        if self._requests is not None:
            waits.append(self._requests.wait(1, now))
        if self._tokens is not None:
            waits.append(self._tokens.wait(tokens, now))
        return max(waits)

    def _take(self, tokens: int) -> None:
        now = self._clock()
        if self._requests is not None:
            self._requests.take(1, now)
        if self._tokens is not None:
            self._tokens.take(tokens, now)

    async def hold(self, seconds: float) -> None:
        self._hold_until = max(self._hold_until, self._clock() + seconds)

    async def aclose(self) -> None:
        pass
