"""Messages to workers: sent when Redis is there, never missed when it is not."""

from __future__ import annotations

import json
import logging
import socket
import time
from pathlib import Path

import pytest
import redis

from service.runs.wake import actor_name, wake
from service.stack.valkey import EmbeddedValkey


@pytest.mark.integration
def test_a_message_names_the_actor_of_the_queue(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "valkey") as server:
        assert wake(server.url, "gpu") is True
        client = redis.Redis.from_url(server.url, decode_responses=True)
        (message_id,) = client.lrange("dramatiq:gpu", 0, -1)
        message = json.loads(client.hget("dramatiq:gpu.msgs", message_id))
        assert (message["queue_name"], message["actor_name"]) == ("gpu", actor_name("gpu"))
        # A flush takes the broker's scripts along with the messages.
        client.flushall()
        client.script_flush()
        assert wake(server.url, "gpu") is True
        assert client.llen("dramatiq:gpu") == 1


def test_redis_away_is_logged_and_soon_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert wake(f"unix://{tmp_path}/nobody.sock", "gpu") is False
    assert time.monotonic() - began < 5
    assert "cannot wake gpu workers" in caplog.text


def test_nothing_to_wake() -> None:
    assert wake(None, "gpu") is False
    assert wake("redis://127.0.0.1:1/0", "none") is False  # what a pipeline is queued in


def test_a_redis_that_takes_calls_and_never_answers_is_soon_given_up() -> None:
    """A request that submits a run waits for this."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        assert wake(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", "gpu") is False
        assert time.monotonic() - began < 4
