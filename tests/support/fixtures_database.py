"""pytest plugin: a real PostgreSQL for the session, a fresh migrated database per test module.

``MONOSEMY_TEST_DATABASE_URL`` (a role that may create databases) is used where it is set;
otherwise the embedded server runs in a temporary folder.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, make_url, text

from service.database.migrate import migrate
from service.database.roles import EXTENSIONS
from service.database.session import make_engine
from service.stack import postgres as postgres_module
from service.stack.postgres import EmbeddedPostgres

TEMPLATE = "monosemy_template"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a database of a running server, for a role that may create others."""
    given = os.environ.get("MONOSEMY_TEST_DATABASE_URL")
    if given:
        yield given
        return
    with embedded_postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server.url


@contextmanager
def embedded_postgres(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A server in ``folder`` that promises nothing about power cuts; gone after the context."""
    server = EmbeddedPostgres(folder)
    try:
        with pytest.MonkeyPatch.context() as patch:
            # Nobody needs these databases after a power cut.
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                patch.setitem(postgres_module.OPTIONS, setting, "off")
            server.start()
        # The service's role, which may create databases here; new ones have the extensions.
        with psycopg.connect(server.admin_url, autocommit=True) as connection:
            connection.execute(f"ALTER ROLE {postgres_module.ROLE} CREATEDB")
        with psycopg.connect(server.admin_url, dbname="template1") as connection:
            for extension in EXTENSIONS:
                connection.execute(f"CREATE EXTENSION {extension}")
        yield server
    finally:
        server.stop()
        # Where root lends it a user, the data lies outside the test's own folder.
        shutil.rmtree(server.data.parent, ignore_errors=True)


@pytest.fixture(scope="session")
def template_database(postgres: str) -> Iterator[str]:
    """Name of a migrated database that others are copied from; one per session, so that several
    sessions can share a server."""
    name = f"{TEMPLATE}_{uuid.uuid4().hex[:8]}"
    create_database(postgres, name)
    migrate(with_database(postgres, name))
    yield name
    drop_database(postgres, name)


@pytest.fixture(scope="module")
def database_url(postgres: str, template_database: str) -> Iterator[str]:
    """A migrated, empty database; dropped after the module."""
    with copied_database(postgres, template_database) as url:
        yield url


@contextmanager
def copied_database(server: str, template: str) -> Iterator[str]:
    """URL of a copy of the database ``template``, to which nobody may be connected meanwhile."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    create_database(server, name, template=template)
    yield with_database(server, name)
    drop_database(server, name)


@pytest.fixture
def empty_database_url(postgres: str) -> Iterator[str]:
    """A database without any table; dropped after the test."""
    name = f"empty_{uuid.uuid4().hex[:12]}"
    create_database(postgres, name)
    yield with_database(postgres, name)
    drop_database(postgres, name)


@pytest.fixture(scope="module")
def module_engine(database_url: str) -> Iterator[Engine]:
    """An engine on the module's database, for fixtures that last as long."""
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on the module's database."""
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


def with_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def create_database(server: str, name: str, template: str = "template1") -> None:
    _administer(server, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')


def drop_database(server: str, name: str) -> None:
    """Not ``WITH (FORCE)``, which is refused while autovacuum, nobody's process, is there: a plain
    drop asks it to leave and waits.  What else is connected is ours to end."""
    _administer(
        server,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{name}' AND usename = current_user",
        f'DROP DATABASE IF EXISTS "{name}"',
    )


def _administer(server: str, *statements: str) -> None:
    engine = make_engine(server)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()
