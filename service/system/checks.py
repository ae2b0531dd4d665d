"""Do the parts that the API leans on answer?"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from sqlalchemy.exc import SQLAlchemyError

from monosemy.errors import MonosemyError
from service.context import AppContext
from service.database.migrate import is_current
from service.system.schemas import Check

REDIS_SECONDS = 2.0

logger = logging.getLogger(__name__)


def check_all(context: AppContext) -> dict[str, Check]:
    """All at once, so that the slowest of them bounds the answer."""
    checks: dict[str, Callable[[AppContext], None]] = {
        "database": _database,
        "redis": _redis,
        "inference": _inference,
    }
    with ThreadPoolExecutor(len(checks)) as pool:
        results = pool.map(lambda check: _outcome(check, context), checks.values())
        return dict(zip(checks, results, strict=True))


def _outcome(check: Callable[[AppContext], None], context: AppContext) -> Check:
    try:
        check(context)
    except MonosemyError as error:
        return Check(status="failed", detail=str(error))
    return Check(status="ok")


def _database(context: AppContext) -> None:
    try:
        current = is_current(context.engine)
    except SQLAlchemyError as error:
        # Addresses and roles stay in the log.
        logger.warning("readiness: database", exc_info=error)
        raise MonosemyError("The database does not answer.") from error
    if not current:
        raise MonosemyError("The database is at another revision.", "Run 'monosemy migrate'.")


def _redis(context: AppContext) -> None:
    ping_redis(context.settings.redis_url)


def ping_redis(url: str | None) -> None:
    """``MonosemyError`` unless it answers."""
    if not url:
        raise MonosemyError("No Redis is configured.", "Set MONOSEMY_REDIS_URL.")
    try:
        with Redis.from_url(
            url,
            socket_timeout=REDIS_SECONDS,
            socket_connect_timeout=REDIS_SECONDS,
            retry=Retry(NoBackoff(), 0),  # whoever asks for readiness asks again
        ) as redis:
            redis.ping()
    except (RedisError, ValueError, OSError) as error:
        logger.warning("readiness: redis", exc_info=error)
        raise MonosemyError("Redis does not answer.") from error


def _inference(context: AppContext) -> None:
    context.inference.check()
