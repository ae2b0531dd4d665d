"""Checks that the parts which the API depends on answer."""

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
from monosemy.specs.rest.system import Check
from service.database.embedding_width import check_width
from service.database.migrate import is_current
from service.database.session import make_engine
from service.inference.client import InferenceClient
from service.settings import Settings

REDIS_SECONDS = 2.0
DATABASE_SECONDS = 3
"""Seconds to connect within."""
READY_SECONDS = 1.0
"""Seconds for which one check of the parts answers every caller."""
PATIENCE_SECONDS = 6.0
"""Seconds that a caller waits for a check under way."""

logger = logging.getLogger(__name__)


class Checks:
    """Looks at every part, over a connection of its own: a pool that is used up by requests says
    nothing of the database."""

    def __init__(self, settings: Settings, inference: InferenceClient) -> None:
        self._redis_url, self._inference = settings.redis_url, inference
        self._width = settings.embedding_width
        self._engine = make_engine(
            settings.database_url, pool_size=1, connect_seconds=DATABASE_SECONDS
        )

    def close(self) -> None:
        self._engine.dispose()

    def __call__(self) -> dict[str, Check]:
        """All at once, so that the slowest of them bounds the answer."""
        checks: dict[str, Callable[[], None]] = {
            "database": self._database,
            "redis": lambda: ping_redis(self._redis_url),
            "inference": self._inference.check,
        }
        with ThreadPoolExecutor(len(checks)) as pool:
            return dict(zip(checks, pool.map(_outcome, checks.values()), strict=True))

    def _database(self) -> None:
        try:
            current = is_current(self._engine)
            if current:
                with self._engine.connect() as connection:
                    check_width(connection, self._width)
        except SQLAlchemyError as error:
            # Addresses and roles stay in the log.
            logger.warning("readiness: database", exc_info=error)
            raise MonosemyError("The database does not answer.") from error
        if not current:
            raise MonosemyError("The database is at another revision.", "Run 'monosemy migrate'.")


def unanswered(seconds: float) -> dict[str, Check]:
    """What is said while the parts have not answered for so long."""
    detail = f"Not every part has answered within {seconds:.0f} seconds."
    return {
        name: Check(status="failed", detail=detail) for name in ("database", "redis", "inference")
    }


def _outcome(check: Callable[[], None]) -> Check:
    try:
        check()
    except MonosemyError as error:
        return Check(status="failed", detail=str(error))
    return Check(status="ok")


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
