"""How often an API key may call, and how often an address may log in, counted in Redis for all
replicas of the API together.

The generic cell rate algorithm (ITU-T I.371): one number per caller, the time at which its bucket
will be full again; Redis' own clock.  Without Redis nobody is held up: a limit protects the
service, and must not be what fails it.
"""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

BURST = 0.25
"""Share of a minute's requests that may come at once."""
_SECONDS = 0.25
_AWAY = 10.0
"""Seconds for which Redis is left alone after it did not answer."""

_SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1e6
local step, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + step
local wait = full - burst * step - now
if wait > 0 then return {0, tostring(wait)} end
redis.call('SET', KEYS[1], tostring(full), 'PX', math.ceil((full - now) * 1000) + 1000)
return {1, tostring(math.floor((now + burst * step - full) / step))}
"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Allowance:
    """Whether a request may pass."""

    allowed: bool
    wait: float = 0.0
    """Seconds until the next may, where this one may not."""
    left: int | None = None
    """Requests that may still come at once; None where nobody counts."""


class KeyRates:
    """Thread-safe; one per process."""

    def __init__(self, redis_url: str | None) -> None:
        self._redis: Redis | None = None
        self._script: Any = None
        self._away_until = 0.0
        if redis_url:
            self._redis = Redis.from_url(
                redis_url,
                socket_timeout=_SECONDS,
                socket_connect_timeout=_SECONDS,
                retry=Retry(NoBackoff(), 0),
            )
            self._script = self._redis.register_script(_SCRIPT)

    def take(self, caller: uuid.UUID | str, per_minute: int) -> Allowance:
        """One request of ``caller`` (a key's id, or a name), who may make so many a minute."""
        if self._script is None or time.monotonic() < self._away_until:
            return Allowance(True)
        burst = max(1, int(per_minute * BURST))
        try:
            where, counts = f"monosemy:rate:{caller}", [60 / per_minute, burst]
            counted = self._script(keys=[where], args=counts)
        except RedisError as error:
            self._away_until = time.monotonic() + _AWAY
            logger.warning("requests are not counted: %s", type(error).__name__)
            return Allowance(True)
        passed, value = counted
        if passed:
            return Allowance(True, left=int(float(value)))
        return Allowance(False, wait=float(value))

    def close(self) -> None:
        if self._redis is not None:
            self._redis.close()
