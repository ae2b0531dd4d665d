"""Engine and sessions.  The boundary (request, worker step) commits; repositories never do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from service.kit.errors import NoDatabase

POOL_SECONDS = 10.0
"""Longest wait for a connection of the pool; beyond it the database counts as not available."""


def make_engine(url: str | None, pool_size: int = 5, connect_seconds: int | None = None) -> Engine:
    """An engine on psycopg 3 whose pool notices a restarted server before it hands out a dead link.

    ``connect_seconds``: to connect within; the system's own patience unless given.

    Raises ``NoDatabase`` when no address is configured.
    """
    if not url:
        raise NoDatabase
    scheme, separator, rest = url.partition("://")
    if scheme in ("postgres", "postgresql"):
        url = f"postgresql+psycopg{separator}{rest}"
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        pool_recycle=1800,
        pool_timeout=POOL_SECONDS,
        connect_args={} if connect_seconds is None else {"connect_timeout": connect_seconds},
    )


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """One unit of work: committed when the block ends well, rolled back when it does not."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session
