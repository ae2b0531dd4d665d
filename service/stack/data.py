"""The embedded database by itself, for commands that work on a home whose stack is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.kit.errors import NoDatabase
from service.settings import Settings
from service.stack.home import HomeLock, close_home, fresh_log
from service.stack.postgres import EmbeddedPostgres


@contextmanager
def database_of(settings: Settings, create: bool = False) -> Iterator[str]:
    """The address of the database: that of the settings or of a running stack, else that of the
    home's own PostgreSQL, which runs meanwhile.

    A home without one gets it only with ``create``; ``NoDatabase`` otherwise.  ``MonosemyError``
    while a stack is starting or stopping there.
    """
    if settings.database_url:
        yield settings.database_url
        return
    home = settings.home.expanduser().absolute()
    if not create and not (home / "postgres").exists():
        raise NoDatabase
    lock = HomeLock(home)
    lock.acquire()
    try:
        close_home(home)
        with EmbeddedPostgres(home / "postgres", fresh_log(home / "logs", "postgres")) as server:
            yield server.url
    finally:
        lock.release()
