"""Bring a database to a schema revision.  Safe to call from several replicas at once.

Alembic is imported inside the functions: only starting and readiness need it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from monosemy.errors import MonosemyError
from service.database.session import make_engine
from service.kit.errors import Unavailable

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATION_LOCK = 0x6D6E7379
"""Advisory lock that one migrating process holds ("mnsy")."""

SCRIPTS = Path(__file__).resolve().parents[2] / "migrations"
"""Beside the ``service`` package, in a checkout and where the distribution is installed."""


def migrate(url: str | None, revision: str = "head") -> str | None:
    """Upgrades to ``revision``; does nothing when the database is there already.

    Processes that call it at the same time wait for each other.  Returns the revision reached.
    Raises ``Unavailable`` when the server cannot be reached, ``MonosemyError`` when it lacks
    pgvector or pg_trgm.
    """
    from alembic import command

    with _locked(url) as (config, connection):
        command.upgrade(config, revision)
        return current_revision(connection)


def downgrade(url: str | None, revision: str) -> str | None:
    """Back to ``revision`` (``"base"`` drops every table).  Returns the revision reached."""
    from alembic import command

    with _locked(url) as (config, connection):
        command.downgrade(config, revision)
        return current_revision(connection)


def current_revision(connection: Connection) -> str | None:
    """The revision that the database is at; None for an empty one."""
    from alembic.runtime.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


@lru_cache
def head_revision() -> str | None:
    """The newest revision that this installation brings."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config()).get_current_head()


def is_current(engine: Engine) -> bool:
    """Whether the database stands at this installation's newest revision."""
    with engine.connect() as connection:
        return current_revision(connection) == head_revision()


def _config() -> Config:
    from alembic.config import Config

    if not (SCRIPTS / "env.py").is_file():
        raise MonosemyError(
            f"The database revisions are missing at {SCRIPTS}.", "Install monosemy again."
        )
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config


@contextmanager
def _locked(url: str | None) -> Iterator[tuple[Config, Connection]]:
    """One connection holds the lock, another migrates: a revision may commit as it likes."""
    config = _config()
    engine = make_engine(url)
    guard = engine.execution_options(isolation_level="AUTOCOMMIT")
    try:
        with guard.connect() as lock:
            lock.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
            try:
                with engine.connect() as connection:
                    config.attributes["connection"] = connection
                    yield config, connection
            finally:
                lock.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
    except OperationalError as error:
        raise Unavailable(
            "The database",
            f"The database cannot be migrated: {_first_line(error)}. Check MONOSEMY_DATABASE_URL"
            " and that PostgreSQL is running.",
        ) from error
    except ProgrammingError as error:
        raise MonosemyError(
            f"The database cannot be migrated: {_first_line(error)}.",
            "The role must own the database, and the server needs the extensions vector (pgvector)"
            " and pg_trgm.",
        ) from error
    finally:
        engine.dispose()


def _first_line(error: OperationalError | ProgrammingError) -> str:
    return str(error.orig).strip().splitlines()[0].rstrip(".")
