"""What the API makes of an inference server that is away, breaks off, fails or refuses."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from service.inference import client as client_module
from service.inference.client import (
    InferenceAway,
    InferenceClient,
    InferenceFailed,
    InferenceRefused,
)
from service.inference.service import inference_problems
from service.kit.errors import DomainError
from service.kit.problems import from_exception


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that takes one request and does as ``answer`` says, then closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        taken, _ = listener.accept()
        with taken:
            taken.recv(65536)
            answer(taken)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
        thread.join(5)


def reset(taken: socket.socket) -> None:
    """As the kernel closes the sockets of a process that is killed with data unread."""
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def half(taken: socket.socket) -> None:
    taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")


def half_a_stream(taken: socket.socket) -> None:
    line = json.dumps({"event": "prompt", "text": "x", "tokens": 1}).encode() + b"\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    taken.sendall(head + f"{len(line):x}\r\n".encode() + line + b"\r\n")


@pytest.mark.parametrize("answer", [lambda _taken: None, reset, half, half_a_stream])
@pytest.mark.parametrize("call", ["activations", "steer"])
def test_a_server_that_is_killed_while_it_answers(
    answer: Callable[[socket.socket], None], call: str
) -> None:
    with serving(answer) as url:
        client = InferenceClient(url)
        with pytest.raises(InferenceAway, match="broke off before its answer was whole"):
            made = getattr(client, call)({})
            list(made) if call == "steer" else None
        client.close()


def test_only_a_refused_connection_cannot_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = InferenceClient(f"http://127.0.0.1:{port}")
    for call in (lambda: client.activations({}), lambda: list(client.steer({}))):
        with pytest.raises(InferenceAway, match="cannot be reached"):
            call()
    client.close()


def answering(status: int, body: Any) -> InferenceClient:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = httpx.MockTransport(lambda _request: httpx.Response(status, content=content))
    return InferenceClient("http://inference", reply)


@pytest.mark.parametrize(
    ("status", "body", "kind", "words", "answered"),
    [
        (500, {"detail": "KeyError: 'x' at a.py:3"}, InferenceFailed, "KeyError: 'x'", 502),
        (500, b"<html>", InferenceFailed, "<html>", 502),
        (500, [], InferenceFailed, r"failed: \[\]", 502),
        (503, {"detail": "not enough memory"}, InferenceAway, "not enough memory", 503),
        (502, {"detail": "x"}, InferenceAway, "status 502: x", 503),
        (422, {"detail": "too long"}, InferenceRefused, "^too long", 422),
        (404, {"detail": "no SAE"}, InferenceRefused, "no SAE", 422),
    ],
)
def test_a_failure_comes_with_its_reason(
    status: int, body: Any, kind: type[Exception], words: str, answered: int
) -> None:
    client = answering(status, body)
    for call in (lambda: client.activations({}), lambda: list(client.steer({}))):
        with pytest.raises(kind, match=words) as caught:
            call()
        with pytest.raises(DomainError) as raised, inference_problems():
            raise caught.value
        problem = from_exception(raised.value)
        assert (problem.status_code, problem.detail) == (answered, str(caught.value))


def test_waiting_and_connecting_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(kind: type[httpx.HTTPError]) -> InferenceClient:
        def reply(_request: httpx.Request) -> httpx.Response:
            raise kind("slow")

        return InferenceClient("http://inference", httpx.MockTransport(reply))

    assert client_module.CONNECT_SECONDS == 2
    with pytest.raises(InferenceAway, match="cannot be reached: no connection in 2 s"):
        fail(httpx.ConnectTimeout).activations({})
    with pytest.raises(InferenceAway, match="did not answer within 120 seconds"):
        fail(httpx.ReadTimeout).activations({})
    with pytest.raises(InferenceAway, match="fallen silent"):
        list(fail(httpx.ReadTimeout).steer({}))


def test_half_a_surrogate_pair_is_the_requests_fault() -> None:
    client = answering(200, {})
    for call in (lambda: client.activations({"text": "\ud800"}), lambda: client.embed(["\ud800"])):
        with pytest.raises(InferenceRefused, match="surrogate"):
            call()
