"""What the API makes of an inference server that is away, breaks off, fails or refuses."""

from __future__ import annotations

import json
import math
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from monosemy.specs.inference.activations import ActivationsCall
from monosemy.specs.inference.steering import SteerCall
from service.inference import client as client_module
from service.inference.client import (
    InferenceAway,
    InferenceClient,
    InferenceFailed,
    InferenceMalformed,
    InferenceRefused,
)
from service.inference.service import inference_problems
from service.kit.errors import DomainError
from service.kit.problems import from_exception

SAE = {"id": "x", "path": "saes/x", "site": "blocks.1.hook_resid_post"}
MODEL = {"name": "tiny"}
READ = ActivationsCall.model_validate({"model": MODEL, "saes": [SAE], "text": "x"})
PUSHES = [{"latent": 1, "strength": 1.0}]
STEER = SteerCall.model_validate({"model": MODEL, "sae": SAE, "pushes": PUSHES, "prompt": "x"})
CALLS: dict[str, Callable[[InferenceClient], Any]] = {
    "activations": lambda client: client.activations(READ),
    "steer": lambda client: list(client.steer(STEER)),
}


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
@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_is_killed_while_it_answers(
    answer: Callable[[socket.socket], None], call: str
) -> None:
    with serving(answer) as url:
        client = InferenceClient(url)
        with pytest.raises(InferenceAway, match="broke off before its answer was whole"):
            CALLS[call](client)
        client.close()


def test_only_a_refused_connection_cannot_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = InferenceClient(f"http://127.0.0.1:{port}")
    for call in CALLS.values():
        with pytest.raises(InferenceAway, match="cannot be reached"):
            call(client)
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
    for call in CALLS.values():
        with pytest.raises(kind, match=words) as caught:
            call(client)
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
        fail(httpx.ConnectTimeout).activations(READ)
    with pytest.raises(InferenceAway, match="did not answer within 120 seconds"):
        fail(httpx.ReadTimeout).activations(READ)
    with pytest.raises(InferenceAway, match="fallen silent"):
        list(fail(httpx.ReadTimeout).steer(STEER))


def test_half_a_surrogate_pair_is_the_requests_fault() -> None:
    with pytest.raises(InferenceRefused, match="surrogate"):
        answering(200, {}).embed(["\ud800"])
    recorded = {"weights": "\ud800"}
    place = READ.saes[0].model_copy(update={"recorded": recorded})
    with pytest.raises(InferenceRefused, match="surrogate"):
        answering(200, {}).activations(READ.model_copy(update={"saes": [place]}))


TOKEN = {"id": 2, "text": " king"}
FIRING = {"features": [[[7, 3.5]]], "chosen": None}
CHANCE = {"id": 5, "text": "x", "logprob": -0.5}


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({"tokens": [TOKEN]}, "saes: Field required"),
        ({"tokens": [TOKEN], "saes": []}, "saes: not those"),
        ({"tokens": [TOKEN], "saes": [FIRING], "more": 1}, "more: Extra"),
        ({"tokens": [{**TOKEN, "id": True}], "saes": [FIRING]}, "tokens.0.id"),
        ({"tokens": [{**TOKEN, "id": "2"}], "saes": [FIRING]}, "tokens.0.id"),
        ({"tokens": [], "saes": [FIRING]}, "one value for each of 0"),
        ({"tokens": [TOKEN], "saes": [{**FIRING, "features": [[[7, math.nan]]]}]}, "finite"),
        ({"tokens": [TOKEN], "saes": [{**FIRING, "chosen": [[1.0]]}]}, "saes: not those"),
        (b"no JSON", "Invalid JSON"),
        (b"[]", "valid dictionary|object"),
    ],
)
def test_another_answer_than_agreed_names_its_first_fault(answer: Any, fault: str) -> None:
    with pytest.raises(InferenceMalformed, match=fault) as caught:
        answering(200, answer).activations(READ)
    assert "not what was agreed" in str(caught.value)
    with pytest.raises(DomainError) as raised, inference_problems():
        raise caught.value
    assert from_exception(raised.value).status_code == 503


@pytest.mark.parametrize(
    "event",
    [
        {"event": "nothing"},
        {"no": "event"},
        {"event": "prompt", "text": "x", "tokens": True},
        {"event": "token", "row": "other", "top": [], "last": True, **CHANCE},
        {"event": "token", "row": "plain", "top": [], "last": 1, **CHANCE},
        {"event": "token", "row": "plain", "top": [{"id": 1}], "last": True, **CHANCE},
        {"event": "token", "row": "plain", "top": [], "last": True, **CHANCE, "logprob": math.inf},
        {"event": "end", "steered": "tired"},
    ],
)
def test_another_event_than_agreed(event: Any) -> None:
    with pytest.raises(InferenceMalformed, match="not what was agreed"):
        list(answering(200, event).steer(STEER))


def test_a_stream_without_an_end_broke_off_and_an_error_in_it_is_raised() -> None:
    prompt = json.dumps({"event": "prompt", "text": "x", "tokens": 1}).encode() + b"\n"
    with pytest.raises(InferenceAway, match="broke off"):
        list(answering(200, prompt).steer(STEER))
    fault = json.dumps({"event": "error", "detail": "KeyError", "status": 500}).encode()
    with pytest.raises(InferenceFailed, match="KeyError"):
        list(answering(200, prompt + fault).steer(STEER))


def test_embeddings_one_for_each_text() -> None:
    for vectors in ([[1.0]], [[1.0], [math.nan]], [[1.0], [True]], [1.0, 2.0], None):
        with pytest.raises(InferenceMalformed, match="embeddings"):
            answering(200, {"embeddings": vectors}).embed(["a", "b"])
    assert answering(200, {"embeddings": [[1], [0.5]]}).embed(["a", "b"]) == [[1.0], [0.5]]


def test_only_a_healthy_server_is_well() -> None:
    answering(200, {"status": "ok"}).check()
    for body in ({"status": "so so"}, {}, b"<html>"):
        with pytest.raises(InferenceMalformed):
            answering(200, body).check()
