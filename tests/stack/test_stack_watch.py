"""Start, crash, restart and stop of children, with small fake programs."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monosemy.errors import MonosemyError
from service.stack import watch as watch_module
from service.stack.processes import Program, answers_http, check_port, free_port
from service.stack.watch import Watch

SLEEP = "import time; time.sleep(60)"
SERVE = "import sys, http.server as h; h.test(h.SimpleHTTPRequestHandler, port=int(sys.argv[1]))"
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


class Events(list[tuple[str, str]]):
    def __call__(self, name: str, text: str) -> None:
        self.append((name, text))

    def of(self, name: str, start: str) -> list[str]:
        return [text for who, text in self if who == name and text.startswith(start)]


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def changes() -> list[float]:
    return []


@pytest.fixture
def watch(events: Events, changes: list[float]) -> Iterator[Watch]:
    watch = Watch(events, lambda: changes.append(time.monotonic()))
    yield watch
    watch.stop()


def program(folder: Path, name: str, code: str, *arguments: str, **options: object) -> Program:
    command = [sys.executable, "-c", code, *arguments]
    options = {"settle_seconds": 0.2, **options}
    return Program(name, command, folder / f"{name}.log", dict(os.environ), **options)  # type: ignore[arg-type]


def eventually(check: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Ended; a zombie that an outer init has yet to collect counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_waits_until_a_server_answers_and_stops_in_reverse(
    tmp_path: Path, watch: Watch, events: Events
) -> None:
    port = free_port()
    server = program(
        tmp_path, "server", SERVE, str(port), is_ready=answers_http(f"http://127.0.0.1:{port}/")
    )
    sleeper = program(tmp_path, "sleeper", SLEEP)
    watch.start([server, sleeper])
    assert answers_http(f"http://127.0.0.1:{port}/")()
    assert events.of("server", "ready after")
    pids = [server.pid, sleeper.pid]
    watch.stop()
    assert all(pid is not None and gone(pid) for pid in pids)
    assert [name for name, text in events if text == "stopped"] == ["sleeper", "server"]


def test_a_program_that_ends_early_is_an_error_with_its_last_words(
    tmp_path: Path, watch: Watch
) -> None:
    broken = program(tmp_path, "broken", "raise SystemExit('no such model')", settle_seconds=30.0)
    with pytest.raises(MonosemyError, match="broken ended while it started") as caught:
        watch.start([broken])
    assert "no such model" in str(caught.value)


def test_a_program_that_never_answers_is_an_error(tmp_path: Path, watch: Watch) -> None:
    mute = program(tmp_path, "mute", SLEEP, is_ready=lambda: False, ready_seconds=0.5)
    with pytest.raises(MonosemyError, match="not ready after"):
        watch.start([mute])
    pid = mute.pid
    watch.stop()
    assert pid is not None
    assert gone(pid)


def test_a_killed_program_is_started_again(
    tmp_path: Path, watch: Watch, events: Events, changes: list[float]
) -> None:
    sleeper, other = program(tmp_path, "sleeper", SLEEP), program(tmp_path, "other", SLEEP)
    watch.start([sleeper, other])
    watch.watch()
    first, untouched = sleeper.pid, other.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    eventually(lambda: events.of("sleeper", "started again"))
    eventually(lambda: changes)
    assert sleeper.running
    assert sleeper.pid != first
    assert other.pid == untouched


def test_restarts_come_later_each_time(
    tmp_path: Path, watch: Watch, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "FIRST_BACKOFF", 0.4)
    monkeypatch.setattr(watch_module, "WATCH_SECONDS", 0.02)
    marker = tmp_path / "crash"
    code = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)"
    crasher = program(tmp_path, "crasher", code, str(marker))
    watch.start([crasher])
    marker.touch()
    watch.watch()
    began = time.monotonic()
    eventually(lambda: len(events.of("crasher", "started again")) == 3)
    assert time.monotonic() - began > 0.4 * (1 + 2 + 4) - 0.1


def test_stop_kills_what_ignores_sigterm_and_its_children(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "STOP_SECONDS", 0.5)
    stubborn = program(tmp_path, "stubborn", STUBBORN)
    watch.start([stubborn])
    eventually(lambda: stubborn.log.read_text().strip())
    pids = [stubborn.pid, int(stubborn.log.read_text())]
    watch.stop()
    eventually(lambda: all(pid is not None and gone(pid) for pid in pids))


def test_children_outlive_the_thread_that_asked_for_them(tmp_path: Path, watch: Watch) -> None:
    sleeper = program(tmp_path, "sleeper", SLEEP)
    thread = threading.Thread(target=watch.start, args=([sleeper],))
    thread.start()
    thread.join()
    time.sleep(0.3)
    assert sleeper.running


def test_a_taken_port_is_named_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MonosemyError, match=f"port {port}.*MONOSEMY_PORT"):
            check_port("127.0.0.1", port, seconds=0.0)
    check_port("127.0.0.1", port)
