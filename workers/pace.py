"""Rates and concurrency of a judge, shared by all workers through Redis.

The buckets are those of ``monosemy.interp.judging.pace``, kept in one hash per endpoint and changed
by scripts that go by Redis' own clock.  Places for calls under way are leased, so those of a killed
worker come back.  A Redis that is flushed starts with full buckets; while it is away, each worker
keeps the limits by itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from monosemy.interp.judging.pace import BURST_SECONDS, LocalPace, Rates, Turn

logger = logging.getLogger(__name__)

LEASE_SECONDS = 10.0
"""A place that was not renewed for so long is free again."""
_LOOK_SECONDS = 0.02
"""Between two looks for a free place, by the first in the queue of each process."""
_AWAY_SECONDS = 5.0
"""Between two tries to reach a Redis that is away."""

_FILL = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local function fill(name, rate, size)
  local at = tonumber(redis.call('HGET', KEYS[1], 'at') or now)
  local level = tonumber(redis.call('HGET', KEYS[1], name) or size)
  return math.min(size, level + math.max(0, now - at) * rate)
end
local function set(name, level)
  redis.call('HSET', KEYS[1], name, string.format('%.6f', level))
end
local function ended()
  redis.call('HSET', KEYS[1], 'at', string.format('%.6f', now))
  redis.call('EXPIRE', KEYS[1], 600)
end
"""

_TAKE = (
    _FILL
    + """
local request_rate, request_size, token_rate, token_size, tokens, places, lease =
  unpack(ARGV, 2, 8)
places = tonumber(places)
if places > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  if redis.call('ZCARD', KEYS[2]) >= places then return '-1' end
  redis.call('ZADD', KEYS[2], now + tonumber(lease), ARGV[1])
  redis.call('EXPIRE', KEYS[2], 600)
end
local wait = tonumber(redis.call('HGET', KEYS[1], 'hold') or 0) - now
local r, t = nil, nil
if tonumber(request_rate) > 0 then
  r = fill('requests', tonumber(request_rate), tonumber(request_size)) - 1
  wait = math.max(wait, -r / tonumber(request_rate))
end
if tonumber(token_rate) > 0 then
  t = fill('tokens', tonumber(token_rate), tonumber(token_size)) - tonumber(tokens)
  wait = math.max(wait, -t / tonumber(token_rate))
end
if r then set('requests', r) end
if t then set('tokens', t) end
ended()
return string.format('%.6f', math.max(0, wait))
"""
)
"""Seconds to wait, or -1 where no place is free; then nothing was taken."""

_END = (
    _FILL
    + """
redis.call('ZREM', KEYS[2], ARGV[1])
local request_rate, request_size, token_rate, token_size, back = unpack(ARGV, 2, 6)
if tonumber(token_rate) > 0 then
  local t = fill('tokens', tonumber(token_rate), tonumber(token_size)) + tonumber(back)
  if tonumber(request_rate) > 0 then
    set('requests', fill('requests', tonumber(request_rate), tonumber(request_size)))
  end
  set('tokens', math.min(tonumber(token_size), t))
  ended()
end
return 1
"""
)

_HOLD = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local hold = math.max(tonumber(redis.call('HGET', KEYS[1], 'hold') or 0), now + tonumber(ARGV[1]))
redis.call('HSET', KEYS[1], 'hold', string.format('%.6f', hold))
redis.call('EXPIRE', KEYS[1], 600)
return 1
"""

_HELD = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
return string.format('%.6f', tonumber(redis.call('HGET', KEYS[1], 'hold') or 0) - now)
"""

_RENEW = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), ARGV[i]) end
redis.call('EXPIRE', KEYS[1], 600)
return 1
"""


class RedisPace:
    """``own`` is the process's own share of patience: its run's concurrency, and all limits while
    Redis is away.  Bound to one event loop.
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
        self._redis: Redis = Redis.from_url(
            redis_url, socket_timeout=2, socket_connect_timeout=1, decode_responses=True
        )
        self._own, self._alone = own, alone
        self._places, self._lease = places or 0, lease_seconds
        mark = hashlib.blake2b(endpoint.encode(), digest_size=12).hexdigest()
        self._rates, self._taken = f"monosemy:pace:{mark}", f"monosemy:places:{mark}"
        self._limits = [*_limit(rates.requests_per_minute, 1), *_limit(rates.tokens_per_minute, 0)]
        scripts = {"take": _TAKE, "end": _END, "hold": _HOLD, "held": _HELD, "renew": _RENEW}
        self._scripts = {name: self._redis.register_script(text) for name, text in scripts.items()}
        self._first = asyncio.Lock()
        self._freed = asyncio.Event()
        self._mine: set[str] = set()
        self._renewing: asyncio.Task[None] | None = None
        self._away_until = 0.0
        self._told = False

    @asynccontextmanager
    async def turn(self, tokens: int) -> AsyncIterator[Turn]:
        async with self._own.turn(0):
            place = uuid.uuid4().hex
            try:
                shared = await self._take(place, tokens)
                if not shared:
                    async with self._alone.turn(tokens) as turn:
                        yield turn
                    return
                turn = Turn(tokens)
                try:
                    yield turn
                finally:
                    tokens -= turn.tokens
            finally:
                if place in self._mine:
                    await asyncio.shield(self._end(place, tokens))

    async def hold(self, seconds: float) -> None:
        await self._alone.hold(seconds)
        await self._call("hold", [self._rates], [seconds])

    async def aclose(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewing
        with suppress(RedisError, OSError):
            await self._redis.aclose()

    async def _take(self, place: str, tokens: int) -> bool:
        """Waits for this call's turn; False while Redis is away."""
        async with self._first:  # one of us at a time looks for a place
            while True:
                self._freed.clear()
                arguments = [place, *self._limits, tokens, self._places, self._lease]
                answer = await self._call("take", [self._rates, self._taken], arguments)
                if answer is None:
                    return False
                if float(answer) >= 0:
                    break
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._freed.wait(), _LOOK_SECONDS)
            self._mine.add(place)
            if self._renewing is None or self._renewing.done():
                self._renewing = asyncio.create_task(self._renew())
        wait = float(answer)
        while wait > 0:
            await asyncio.sleep(wait)
            # Somebody may have been asked meanwhile to let the endpoint alone.
            wait = float(await self._call("held", [self._rates], []) or 0)
        return True

    async def _end(self, place: str, back: int) -> None:
        self._mine.discard(place)
        await self._call("end", [self._rates, self._taken], [place, *self._limits, back])
        self._freed.set()

    async def _renew(self) -> None:
        while self._mine:
            await asyncio.sleep(self._lease / 3)
            if self._mine and self._places:
                await self._call("renew", [self._taken], [self._lease, *self._mine])

    async def _call(self, name: str, keys: list[str], arguments: list[Any]) -> Any:
        """The script's answer; None while Redis is away."""
        if time.monotonic() < self._away_until:
            return None
        try:
            answer = await self._scripts[name](keys=keys, args=arguments)
        except (RedisError, OSError) as error:
            self._away_until = time.monotonic() + _AWAY_SECONDS
            if not self._told:
                self._told = True
                logger.warning(
                    "Redis is away (%s): this worker keeps the judge's limits by itself",
                    type(error).__name__,
                )
            return None
        if self._told:
            self._told = False
            logger.warning("Redis is back: the judge's limits are shared again")
        return answer


def _limit(per_minute: float | None, least: float) -> tuple[float, float]:
    """(rate per second, size of the bucket); zeros for no limit."""
    if per_minute is None:
        return 0.0, 0.0
    rate = per_minute / 60
    return rate, max(least, rate * BURST_SECONDS)
