"""One child program of the stack: what to run, and how to tell that it serves."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import httpx

from monosemy.errors import MonosemyError
from service.stack.spawn import alive, end_group, last_lines, signal_group, spawn

POLL_SECONDS = 0.1
HEALTH_TIMEOUT = 2.0


class Part(Protocol):
    """What the supervisor starts, watches and stops."""

    name: str
    log: Path

    @property
    def pid(self) -> int | None: ...

    @property
    def running(self) -> bool: ...

    def launch(self) -> None:
        """Starts it; may return before it serves."""

    def ready(self) -> bool: ...

    def ask_to_stop(self) -> None: ...

    def stop(self, seconds: float) -> None:
        """Returns when nothing of it is left."""

    @property
    def ready_seconds(self) -> float:
        """How long it may take until ``ready``."""


class Server(Protocol):
    """An embedded server: ``EmbeddedPostgres`` or ``EmbeddedValkey``."""

    log: Path
    process: subprocess.Popen[bytes] | None

    @property
    def running(self) -> bool: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def answers(self) -> bool: ...


class ServerPart:
    """An embedded server as a part; its ``launch`` returns when it answers."""

    ready_seconds = 5.0

    def __init__(self, name: str, server: Server) -> None:
        self.name = name
        self.log = server.log
        self._server = server

    @property
    def pid(self) -> int | None:
        return None if self._server.process is None else self._server.process.pid

    @property
    def running(self) -> bool:
        return self._server.running

    def launch(self) -> None:
        self._server.start()

    def ready(self) -> bool:
        return self._server.answers()

    def ask_to_stop(self) -> None:
        """Left to ``stop``: the programs that use a server end before it does."""

    def stop(self, seconds: float) -> None:  # noqa: ARG002
        self._server.stop()


class Program:
    """A program of ours, for instance ``python -m workers.gpu``."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        *,
        is_ready: Callable[[], bool] | None = None,
        ready_seconds: float = 60.0,
        settle_seconds: float = 1.0,
    ) -> None:
        """``is_ready``: asks it; a program without one is ready when it has run for
        ``settle_seconds``."""
        self.name = name
        self.command = list(command)
        self.log = log
        self.environment = dict(environment)
        self.ready_seconds = ready_seconds
        self._is_ready = is_ready
        self._settle_seconds = settle_seconds
        self._launched = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        return alive(self._process)

    def launch(self) -> None:
        self.stop(0.0)
        self._launched = time.monotonic()
        self._process = spawn(self.command, self.log, environment=self.environment)

    def ready(self) -> bool:
        if self._is_ready is None:
            return time.monotonic() - self._launched >= self._settle_seconds
        return self._is_ready()

    def ask_to_stop(self) -> None:
        if self._process is not None:
            signal_group(self._process, signal.SIGTERM)

    def stop(self, seconds: float) -> None:
        if self._process is not None:
            end_group(self._process, signal.SIGTERM, seconds)
            self._process = None


def wait_ready(part: Part) -> None:
    """Raises ``MonosemyError`` with the end of its log when the part ends or takes too long."""
    deadline = time.monotonic() + part.ready_seconds
    while time.monotonic() < deadline:
        if not part.running:
            raise MonosemyError(f"{part.name} ended while it started.{_log_of(part)}")
        if part.ready():
            return
        time.sleep(POLL_SECONDS)
    raise MonosemyError(
        f"{part.name} was not ready after {part.ready_seconds:.0f} s.{_log_of(part)}"
    )


def _log_of(part: Part) -> str:
    return f" The end of {part.log}:\n{last_lines(part.log)}"


def answers_http(url: str) -> Callable[[], bool]:
    """A check that a GET of ``url`` succeeds."""

    def check() -> bool:
        try:
            # trust_env off: a proxy meant for the internet must not see local requests.
            with httpx.Client(trust_env=False, timeout=HEALTH_TIMEOUT) as client:
                return client.get(url).is_success
        except httpx.HTTPError:
            return False

    return check


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on now."""
    with _bound(host, 0) as taken:
        return int(taken.getsockname()[1])


def check_port(host: str, port: int, seconds: float = 2.0) -> None:
    """Raises ``MonosemyError`` when ``port`` cannot be listened on.

    Tries for ``seconds``: a server that is just ending gives its port up in a moment.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            _bound(host, port).close()
            return
        except OSError as error:
            if time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
                continue
            raise MonosemyError(
                f"The API cannot listen on {host}, port {port}: {error.strerror}.",
                "Set MONOSEMY_PORT to another port (0 takes a free one) or MONOSEMY_HOST.",
            ) from None


def _bound(host: str, port: int) -> socket.socket:
    address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    taken = socket.socket(address[0], address[1])
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address[4])
    except OSError:
        taken.close()
        raise
    return taken
