"""The embedded Valkey with the two clients that the service uses."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import dramatiq
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker

from monosemy.errors import MonosemyError
from service.stack.valkey import EmbeddedValkey

pytestmark = pytest.mark.integration


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path / "a folder" / "valkey") as server:
        yield server


def client(server: EmbeddedValkey) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True)


def test_serves_redis_and_listens_on_no_port(server: EmbeddedValkey) -> None:
    assert client(server).config_get("port") == {"port": "0"}
    assert client(server).config_get("appendonly") == {"appendonly": "yes"}
    socket = Path(client(server).config_get("unixsocket")["unixsocket"])
    assert socket.stat().st_mode & 0o077 == 0
    assert len(str(socket)) < 100


def test_restart_keeps_data_and_stop_leaves_no_process(server: EmbeddedValkey) -> None:
    client(server).set("kept", "7")
    assert server.process is not None
    pid = server.process.pid
    server.stop()
    assert not Path(f"/proc/{pid}").exists()
    server.start()
    assert client(server).get("kept") == "7"


def test_starts_again_after_kill_9(server: EmbeddedValkey) -> None:
    client(server).set("kept", "7")
    time.sleep(1.2)  # the file of writes is flushed each second
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGKILL)
    while server.running:
        time.sleep(0.01)
    server.start()
    assert client(server).get("kept") == "7"


def test_two_beside(server: EmbeddedValkey, tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "other") as other:
        client(server).set("only here", "1")
        assert other.url != server.url
        assert client(other).get("only here") is None


def test_two_servers_never_share_a_folder(
    server: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.stack.valkey.START_SECONDS", 0.3)
    with pytest.raises(MonosemyError, match="Another Valkey"):
        EmbeddedValkey(server.folder).start()
    assert server.answers()


def test_long_folder_gets_a_short_socket(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / ("x" * 90)) as server:
        assert client(server).ping()
        folder = Path(server.url.removeprefix("unix://")).parent
        assert folder.parent == Path("/tmp")
    assert not folder.exists()


def test_dramatiq_delivers_a_message(server: EmbeddedValkey) -> None:
    broker = RedisBroker(url=server.url)
    got: list[int] = []

    @dramatiq.actor(broker=broker, queue_name="gpu")
    def look(number: int) -> None:
        got.append(number)

    worker = dramatiq.Worker(broker, worker_threads=1)
    worker.start()
    try:
        look.send(7)
        broker.join("gpu", timeout=10_000)
        worker.join()
    finally:
        worker.stop()
        broker.close()
    assert got == [7]
