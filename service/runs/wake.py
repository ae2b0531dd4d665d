"""Telling idle workers that there is something to do.

Nothing depends on it: Postgres says what is to be done and workers look there by themselves every
few seconds.  A message only saves them the wait.
"""

from __future__ import annotations

import logging
from functools import lru_cache

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

logger = logging.getLogger(__name__)


def actor_name(queue: str) -> str:
    """The Dramatiq actor that workers of ``queue`` run."""
    return f"wake_{queue}"


@lru_cache(maxsize=4)
def broker_for(redis_url: str) -> RedisBroker:
    """One broker per address, with timeouts: a dead Redis must not hold a request up."""
    # Given a url, the broker would make its own client and leave timeouts out.
    client = redis.Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=1)
    return RedisBroker(client=client)


def wake(redis_url: str | None, queue: str) -> bool:
    """Wakes one idle worker of ``queue``; False (and a line in the log) if Redis is away."""
    if not redis_url or queue == "none":
        return False
    message: dramatiq.Message[None] = dramatiq.Message(
        queue_name=queue, actor_name=actor_name(queue), args=(), kwargs={}, options={}
    )
    try:
        broker_for(redis_url).enqueue(message)
    except Exception as error:
        logger.warning("cannot wake %s workers through Redis: %s", queue, type(error).__name__)
        return False
    return True
