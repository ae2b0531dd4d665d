"""Rates and concurrency of a judge, shared by all workers through Redis.

Every process has at most one waiter in a line that Redis keeps, so no worker starves and each turn
comes by message, not by asking again and again.  Places for calls under way, and ranks in line, are
leased: those of a killed worker come back.  A Redis that is flushed starts with full buckets; while
it is away, each worker keeps the limits by itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from monosemy.interp.judging.pace import BURST_SECONDS, LocalPace, Rates, Turn
from workers import pace_scripts

logger = logging.getLogger(__name__)

LEASE_SECONDS = 10.0
"""Seconds after which a place that was not renewed is free again."""
_PATIENCE_SECONDS = 1.5
"""Seconds after which a waiter in line that renews nothing counts as lost."""
_LOOK_SECONDS = 0.4
"""Seconds between two checks of a waiter that got no message."""
_REPLY_SECONDS = 2.0
"""Seconds without an answer after which Redis counts as away."""
_AWAY_SECONDS = 1.0
"""Seconds between two tries to reach a Redis that is away."""


class RedisPace:
    """The limits of ``endpoint`` (any text that names it; only its hash is stored), shared.

    ``own`` is the process's own share of patience: its run's concurrency.  ``alone`` has all limits
    and serves while Redis is away, which is logged once.  Bound to one event loop.
    """

    def __init__(
        self,
        redis_url: str,
        endpoint: str,
        rates: Rates,
        places: int | None,
        own: LocalPace,
        alone: LocalPace,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        # One retry without delay, for a connection that was cut meanwhile.
        self._redis: Redis = Redis.from_url(
            redis_url,
            socket_timeout=_REPLY_SECONDS,
            socket_connect_timeout=1,
            decode_responses=True,
            retry=Retry(NoBackoff(), 1),
        )
        self._own, self._alone = own, alone
        self._places, self._lease = places or 0, lease_seconds
        mark = "monosemy:{" + hashlib.blake2b(endpoint.encode(), digest_size=12).hexdigest() + "}:"
        self._keys = [mark + name for name in ("pace", "places", "line", "alive")]
        self._channel, self._name = mark + "turn:", uuid.uuid4().hex
        self._limits = [*_limit(rates.requests_per_minute, 1), *_limit(rates.tokens_per_minute, 0)]
        self._counts_ends = bool(places) or rates.tokens_per_minute is not None
        names = ("take", "end", "hold", "renew", "drop")
        self._scripts = {
            name: self._redis.register_script(getattr(pace_scripts, name.upper())) for name in names
        }
        self._first = asyncio.Lock()
        self._woken = asyncio.Event()
        self._mine: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._away = False

    @asynccontextmanager
    async def turn(self, tokens: int) -> AsyncIterator[Turn]:
        async with self._own.turn(0):
            place = uuid.uuid4().hex
            if not await self._take(place, tokens):
                async with self._alone.turn(tokens) as turn:
                    yield turn
                return
            turn = Turn(tokens)
            try:
                yield turn
            finally:
                self._mine.discard(place)
                if self._counts_ends:
                    await asyncio.shield(self._end(place, tokens - turn.tokens))

    async def hold(self, seconds: float) -> None:
        # Here too, lest a flush make the one forget who was asked.
        await self._own.hold(seconds)
        await self._alone.hold(seconds)
        await self._call("hold", [seconds])

    async def aclose(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        with suppress(RedisError, OSError):
            await self._redis.aclose()

    # ---------------------------------------------------------------- a call's turn
    async def _take(self, place: str, tokens: int) -> bool:
        """Waits for this call's turn; False while Redis is away."""
        arguments = [self._name, place, self._channel, *self._limits, tokens]
        arguments += [self._places, self._lease, _PATIENCE_SECONDS]
        async with self._first:  # one of us at a time stands in the line of all
            try:
                while True:
                    self._woken.clear()
                    answer = await self._call("take", arguments)
                    if answer is None:
                        return False
                    if answer == "go":
                        break
                    await self._wait(float(answer))
            except asyncio.CancelledError:
                await asyncio.shield(self._end(place, 0, self._name))
                raise
        self._mine.add(place)
        if self._places:
            self._start("renew", self._renew)
        return True

    async def _wait(self, seconds: float) -> None:
        """So long, or until a message says that our turn may have come."""
        self._start("listen", self._listen)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), min(seconds, _LOOK_SECONDS))

    async def _end(self, place: str, back: int, waiter: str = "") -> None:
        await self._call("end", [waiter, place, self._channel, *self._limits, back])

    # ---------------------------------------------------------------- in the background
    def _start(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if name not in self._tasks or self._tasks[name].done():
            self._tasks[name] = asyncio.create_task(work())

    async def _listen(self) -> None:
        """Listens for turns, as long as Redis answers."""
        with suppress(RedisError, OSError):
            async with self._redis.pubsub() as messages:
                await messages.subscribe(self._channel + self._name)
                while not self._away:
                    if await messages.get_message(timeout=1.0) is not None:
                        self._woken.set()  # also for the subscription: look again at once

    async def _renew(self) -> None:
        while self._mine:
            await asyncio.sleep(self._lease / 3)
            renewed = set(self._mine)
            if renewed:
                await self._call("renew", [self._lease, *renewed])
            if ended := renewed - self._mine:  # their ends may have been overtaken
                await self._call("drop", list(ended))

    async def _seek(self) -> None:
        """Tries to reach a Redis that is away, so that no call has to wait for it."""
        while self._away:
            await asyncio.sleep(_AWAY_SECONDS)
            with suppress(RedisError, OSError):
                await self._scripts["hold"](keys=self._keys, args=[0])
                self._away = False
        logger.warning("Redis is back: the judge's limits are shared again")

    async def _call(self, name: str, arguments: list[Any]) -> Any:
        """The script's answer; None while Redis is away."""
        if self._away:
            return None
        try:
            # The client's own limit counts anew for each of its attempts.
            async with asyncio.timeout(_REPLY_SECONDS):
                return await self._scripts[name](keys=self._keys, args=arguments)
        except (RedisError, OSError) as error:
            if not self._away:
                self._away = True
                self._start("seek", self._seek)
                logger.warning(
                    "Redis is away (%s): this worker keeps the judge's limits by itself",
                    type(error).__name__,
                )
            return None


def _limit(per_minute: float | None, least: float) -> tuple[float, float]:
    """(rate per second, size of the bucket); zeros for no limit."""
    if per_minute is None:
        return 0.0, 0.0
    rate = per_minute / 60
    return rate, max(least, rate * BURST_SECONDS)
