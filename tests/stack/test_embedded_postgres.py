"""The embedded PostgreSQL, as whoever runs the tests (root included)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from monosemy.errors import MonosemyError
from service.stack.account import Account, place_for_data, place_for_programs
from service.stack.postgres import EmbeddedPostgres

pytestmark = pytest.mark.integration


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "postgres")
    yield server
    server.stop()
    remove(server)


def remove(server: EmbeddedPostgres) -> None:
    """Also what lies outside the test's folder, where tests run as root."""
    shutil.rmtree(server.data.parent)


def execute(server: EmbeddedPostgres, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_starts_with_both_extensions_and_no_port(server: EmbeddedPostgres) -> None:
    server.start()
    server.start()  # a second call changes nothing
    assert execute(server, "SELECT '[1,2]'::vector <-> '[1,0]'::vector") == [(2.0,)]
    assert execute(server, "SELECT similarity('feature', 'features') > 0.5") == [(True,)]
    assert execute(server, "SHOW server_encoding") == [("UTF8",)]
    assert execute(server, "SHOW listen_addresses") == [("",)]
    assert execute(server, "SHOW fsync") == [("on",)]
    assert execute(server, "SELECT current_database()") == [("monosemy",)]


def test_a_copied_folder_does_not_start_another_database(
    server: EmbeddedPostgres, tmp_path: Path
) -> None:
    other = tmp_path / "another" / "data"
    link = server.folder / "data-elsewhere"
    link.symlink_to(other)
    with pytest.raises(MonosemyError, match=f"its database is in {other.parent}") as caught:
        server.start()
    assert "cp -a" in str(caught.value) and not server.data.exists() and not server.running
    link.unlink()
    server.start()
    assert not link.is_symlink() or link.readlink() == server.data


def test_restart_keeps_data_and_stop_leaves_no_process(server: EmbeddedPostgres) -> None:
    with server:
        execute(server, "CREATE TABLE kept (n int)")
        execute(server, "INSERT INTO kept VALUES (7)")
        assert server.process is not None
        pid = server.process.pid
    assert not Path(f"/proc/{pid}").exists()
    assert not server.running
    with EmbeddedPostgres(server.folder) as again:
        assert again.url == server.url
        assert execute(again, "SELECT n FROM kept") == [(7,)]


def test_starts_again_after_kill_9(server: EmbeddedPostgres) -> None:
    server.start()
    execute(server, "CREATE TABLE kept (n int)")
    execute(server, "INSERT INTO kept VALUES (7)")
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGKILL)
    while server.running:
        time.sleep(0.01)
    assert (server.data / "postmaster.pid").exists()
    server.start()
    assert execute(server, "SELECT n FROM kept") == [(7,)]


def test_two_beside(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "a") as one, EmbeddedPostgres(tmp_path / "b") as two:
        execute(one, "CREATE TABLE only_here (n int)")
        assert one.url != two.url
        with pytest.raises(psycopg.errors.UndefinedTable):
            execute(two, "SELECT * FROM only_here")
    remove(one)
    remove(two)


def test_long_folder_gets_a_short_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("long, 'odd' name " * 5) / ("x" * 60)
    with EmbeddedPostgres(folder) as server:
        assert execute(server, "SELECT 1") == [(1,)]
    remove(server)


def test_an_interrupted_initdb_is_no_cluster(server: EmbeddedPostgres) -> None:
    half_made = server.data.parent / "data.new"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")
    server.start()
    assert execute(server, "SELECT 1") == [(1,)]


def test_a_damaged_cluster_is_an_error_with_the_log(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.start()
    server.stop()
    (server.data / "global" / "pg_control").unlink()
    monkeypatch.setattr("service.stack.postgres.START_SECONDS", 1.0)
    with pytest.raises(MonosemyError, match="did not start") as caught:
        server.start()
    assert "pg_control" in str(caught.value)
    assert not server.running


def refused(url: str) -> str:
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(url, connect_timeout=5).close()
    return str(caught.value)


def test_nobody_is_trusted_and_the_service_is_no_superuser(server: EmbeddedPostgres) -> None:
    server.start()
    me = "SELECT rolsuper, rolcreaterole, rolbypassrls, rolreplication FROM pg_roles"
    assert execute(server, f"{me} WHERE rolname = current_user") == [(False,) * 4]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(server, "COPY (SELECT 1) TO PROGRAM 'true'")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(server, "SELECT pg_read_file('PG_VERSION')")
    place = server.url.partition("@")[2]
    elsewhere = place.replace("/monosemy?", "/postgres?")
    for role in ("postgres", "monosemy"):
        assert "password" in refused(f"postgresql://{role}@{place}")
        assert "password" in refused(f"postgresql://{role}:wrong@{elsewhere}")
    if os.geteuid() == 0:  # a process of nobody's, which is who the server runs as
        account = Account.for_this_process()
        assert account is not None
        address = f"postgresql://postgres@{elsewhere}"
        done = subprocess.run(
            [server._programs / "psql", "--no-password", "--command=SELECT 1", address],
            capture_output=True,
            text=True,
            cwd="/",
            **account.popen_options(),
        )
        assert "password" in done.stderr
        assert done.returncode != 0


def test_passwords_are_files_of_their_owner_alone_and_in_no_log(server: EmbeddedPostgres) -> None:
    server.start()
    folder = server.folder / "passwords"
    assert folder.stat().st_mode & 0o777 == 0o700
    secrets = {path.name: path.read_text().strip() for path in folder.iterdir()}
    assert set(secrets) == {"postgres", "monosemy"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
    log = server.log.read_text()
    command = Path(f"/proc/{server.process.pid}/cmdline").read_text()  # type: ignore[union-attr]
    for secret in secrets.values():
        assert len(secret) > 30 and secret not in log and secret not in command


def open_to_all(server: EmbeddedPostgres) -> None:
    """Makes of a cluster one as it was before: all are trusted, the superuser owns everything."""
    with psycopg.connect(server.admin_url, dbname="monosemy", autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (id int GENERATED ALWAYS AS IDENTITY, n int)")
        connection.execute("CREATE VIEW seen AS SELECT n FROM kept")
        connection.execute("CREATE SEQUENCE counted")
        connection.execute("INSERT INTO kept (n) VALUES (7)")
        connection.execute("ALTER DATABASE monosemy OWNER TO postgres")
        connection.execute("ALTER SCHEMA public OWNER TO pg_database_owner")
        connection.execute("REASSIGN OWNED BY monosemy TO postgres")
        connection.execute("DROP OWNED BY monosemy")
    with psycopg.connect(server.admin_url, autocommit=True) as connection:
        connection.execute("DROP OWNED BY monosemy")
        connection.execute("DROP ROLE monosemy")
        connection.execute("ALTER ROLE postgres PASSWORD NULL")
    server.stop()
    (server.data / "pg_hba.conf").write_text("local all all trust\n")
    shutil.rmtree(server.folder / "passwords")
    (server.data.parent / "closed").unlink()


def test_a_cluster_that_trusted_everybody_is_closed_and_handed_over(
    server: EmbeddedPostgres,
) -> None:
    server.start()
    open_to_all(server)
    server.start()
    assert execute(server, "SELECT n FROM seen") == [(7,)]
    execute(server, "ALTER TABLE kept ADD COLUMN more int")
    execute(server, "INSERT INTO kept (n) VALUES (8)")
    execute(server, "DROP VIEW seen; DROP SEQUENCE counted")
    assert "password" in refused(f"postgresql://postgres@{server.url.partition('@')[2]}")
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    assert execute(server, owners) == [("monosemy",)]


def test_lost_passwords_are_made_anew(server: EmbeddedPostgres) -> None:
    with server:
        execute(server, "CREATE TABLE kept (n int)")
    shutil.rmtree(server.folder / "passwords")
    with server:
        assert execute(server, "SELECT count(*) FROM kept") == [(0,)]


KILLED = """
import os, signal, sys
from pathlib import Path
from service.stack.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_9_of_the_owner_leaves_no_orphan(server: EmbeddedPostgres) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(server.folder)], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    deadline = time.monotonic() + 15
    while Path(f"/proc/{pid}/cwd").is_symlink() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}/cwd").is_symlink()
    server.start()
    assert execute(server, "SELECT 1") == [(1,)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lends PostgreSQL another user")
def test_root_moves_data_that_nobody_cannot_reach_and_never_swaps_it(tmp_path: Path) -> None:
    account = Account.for_this_process()
    assert account is not None
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    place = place_for_data(closed / "pg", account)
    try:
        assert place.parent == Path("/var/lib/monosemy")
        assert place_for_data(closed / "pg", account) == place
        assert closed.stat().st_mode & 0o777 == 0o700
        cluster = closed / "pg" / "data"
        cluster.mkdir()
        (cluster / "PG_VERSION").write_text("18\n")
        with pytest.raises(MonosemyError, match="cannot use the data"):
            place_for_data(closed / "pg", account)
    finally:
        shutil.rmtree(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lends PostgreSQL another user")
def test_root_copies_programs_that_nobody_cannot_reach_once(tmp_path: Path) -> None:
    account = Account.for_this_process()
    assert account is not None
    tree = tmp_path / "closed" / "programs"
    (tree / "bin").mkdir(parents=True)
    tree.parent.chmod(0o700)
    (tree / "bin" / "postgres").write_text("#!/bin/sh\necho here\n")
    (tree / "bin" / "postgres").chmod(0o755)
    copy = place_for_programs(tree, "bin/postgres", account)
    try:
        assert copy != tree
        done = subprocess.run(
            [copy / "bin" / "postgres"], capture_output=True, text=True, **account.popen_options()
        )
        assert done.stdout == "here\n"
        made = copy.stat().st_ino
        assert place_for_programs(tree, "bin/postgres", account).stat().st_ino == made
        open_tree = Path(tempfile.mkdtemp(prefix="monosemy-open-", dir="/tmp"))
        open_tree.chmod(0o755)
        shutil.copytree(tree, open_tree, dirs_exist_ok=True)
        assert place_for_programs(open_tree, "bin/postgres", account) == open_tree
        shutil.rmtree(open_tree)
    finally:
        shutil.rmtree(copy)
