"""`monosemy migrate` with a superuser's address makes the service's role, and hands over to it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url
from typer.testing import CliRunner

from monosemy.errors import MonosemyError
from service.cli.main import app
from service.database.migrate import downgrade, head_revision, migrate
from service.database.roles import prepare
from service.stack.postgres import EmbeddedPostgres

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    import shutil

    with EmbeddedPostgres(tmp_path_factory.mktemp("roles")) as server:
        yield server
    shutil.rmtree(server.data.parent, ignore_errors=True)


@pytest.fixture
def wanted(server: EmbeddedPostgres) -> str:
    """Address of a role and a database that are not there yet; its password needs quoting."""
    name = f"service_{uuid.uuid4().hex[:8]}"
    url = make_url(server.admin_url).set(username=name, password="p'w\"%/@", database=name)
    return url.render_as_string(hide_password=False)


def test_a_role_is_made_and_may_migrate_both_ways(server: EmbeddedPostgres, wanted: str) -> None:
    for _ in range(2):  # safe to repeat
        prepare(server.admin_url, wanted)
        assert migrate(wanted) == head_revision()
    with psycopg.connect(wanted) as connection:
        query = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
        assert connection.execute(query).fetchone() == (False,)
    # Others of the server have no way in.
    name = make_url(wanted).database or ""
    other = make_url(server.url).set(database=name).render_as_string(hide_password=False)
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(other)
    downgrade(wanted, "0001")


def test_what_the_superuser_owned_is_handed_over(server: EmbeddedPostgres, wanted: str) -> None:
    name = make_url(wanted).database or ""
    with psycopg.connect(server.admin_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    by_superuser = make_url(server.admin_url).set(database=name)
    migrate(by_superuser.render_as_string(hide_password=False))
    prepare(server.admin_url, wanted)
    downgrade(wanted, "0001")
    assert migrate(wanted) == head_revision()


def test_the_command_does_so(
    server: EmbeddedPostgres, wanted: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MONOSEMY_HOME", str(tmp_path))
    monkeypatch.setenv("MONOSEMY_DATABASE_URL", wanted)
    refused = CliRunner().invoke(app, ["migrate", "--role-only"])
    assert refused.exit_code and "MONOSEMY_DATABASE_ADMIN_URL" in refused.output
    monkeypatch.setenv("MONOSEMY_DATABASE_ADMIN_URL", server.admin_url)
    assert CliRunner().invoke(app, ["migrate", "--role-only"]).exit_code == 0
    with psycopg.connect(wanted) as connection:
        assert connection.execute("SELECT to_regclass('runs')").fetchone() == (None,)
    assert CliRunner().invoke(app, ["migrate"]).exit_code == 0
    with psycopg.connect(wanted) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)


def test_addresses_that_cannot_be_are_refused(server: EmbeddedPostgres, wanted: str) -> None:
    with pytest.raises(MonosemyError, match="role of its own"):
        prepare(server.admin_url, server.admin_url)
    with pytest.raises(MonosemyError, match="cannot be prepared"):
        prepare(wanted, server.url)
