"""The client's transport: what is sent again, what is raised, how streams are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

import monosemy
from monosemy.client import (
    ApiError,
    Conflict,
    InvalidRequest,
    NotAuthorised,
    NotFound,
    NotMonosemy,
    ServerFault,
    ServiceUnreachable,
    TryLater,
    segment,
    transport,
)
from monosemy.client.events import ServerEvent, server_events
from monosemy.errors import MonosemyError, SpecError
from monosemy.specs.rest.models import ModelSummary
from tests.specs.test_inference_contract import EXAMPLES

ID = "7c6bd7d2-7b87-4f2f-8c3b-0f6ff6e1b9f4"


def problem(status: int, **more: Any) -> dict[str, Any]:
    about = {"type": "urn:monosemy:problem:x", "title": "x", "instance": "/x"}
    return {**about, "status": status, "detail": f"detail {status}", **more}


def busy(seconds: int = 3, status: int = 503) -> httpx.Response:
    headers = {"Retry-After": str(seconds)}
    return httpx.Response(status, json=problem(status), headers=headers)


class Script:
    """Answers in order, the last one again and again; notes requests and waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: httpx.Response) -> None:
        self.answers, self.requests = list(answers), [httpx.Request("GET", "http://x")] * 0
        self.waited: list[float] = []
        monkeypatch.setattr(transport.time, "sleep", self.waited.append)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def client(self, patience: float = 60.0) -> monosemy.Client:
        mock = httpx.MockTransport(self)
        return monosemy.Client("http://service.test", "key", patience=patience, transport=mock)


def page(*items: Any) -> httpx.Response:
    return httpx.Response(200, json={"items": list(items), "next_cursor": None})


@pytest.mark.parametrize(
    "call",
    [
        lambda client: list(client.saes.list()),
        lambda client: client.get("/saes"),
        lambda client: client.put("/x", {}),
        lambda client: client.runs.submit({"kind": "train"}),
        lambda client: client.inference.contrast("demo", ["a"], ["b"]),
        lambda client: client.inference.attention("demo", "a b"),
        lambda client: client.lists.add("mine", [("demo", 1)]),
    ],
)
def test_a_busy_service_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[monosemy.Client], Any]
) -> None:
    script = Script(monkeypatch, busy(3), busy(2, 429), page())
    with suppress(NotMonosemy):  # the last answer is that of a listing
        call(script.client())
    assert script.waited == [3.0, 2.0] and len(script.requests) == 3
    assert len({request.content for request in script.requests}) == 1
    assert len({request.headers.get("Idempotency-Key") for request in script.requests}) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.runs.retry(ID),
        lambda client: client.runs.cancel(ID),
        lambda client: client.post("/lists", {}),
        lambda client: client.lists.create("mine"),
        lambda client: client.delete("/x"),
    ],
)
def test_what_may_have_been_done_is_not_sent_again(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[monosemy.Client], Any]
) -> None:
    script = Script(monkeypatch, busy())
    with pytest.raises(TryLater) as caught:
        call(script.client())
    assert script.waited == [] and caught.value.retry_after == 3.0
    turned_away = Script(monkeypatch, busy(1, 429), httpx.Response(200, json={}))
    with suppress(NotMonosemy):
        call(turned_away.client())
    assert turned_away.waited == [1.0]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.get("/saes"),
        lambda client: client.saes.get("demo"),
        lambda client: client.post("/lists", {}),
        lambda client: client.exports.features("demo", "never.parquet"),
        lambda client: list(client.runs.events(ID)),
    ],
)
def test_a_redirect_is_told_and_not_followed(
    monkeypatch: pytest.MonkeyPatch, status: int, call: Callable[[monosemy.Client], Any]
) -> None:
    headers = {"Location": "https://me:secret@elsewhere.test/api/v1/saes?token=secret"}
    script = Script(monkeypatch, httpx.Response(status, headers=headers))
    with pytest.raises(NotMonosemy, match=r"redirects to https://elsewhere\.test/") as raised:
        call(script.client())
    assert "not followed" in str(raised.value) and "secret" not in str(raised.value)
    assert len(script.requests) == 1


def test_a_file_that_cannot_be_written_is_named_as_it_was_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = Script(monkeypatch, httpx.Response(200, content=b"PAR1")).client()
    target = tmp_path / "missing" / "features.parquet"
    with pytest.raises(FileNotFoundError) as raised:
        client.exports.features("demo", target)
    assert raised.value.filename == str(target)
    with pytest.raises(FileNotFoundError) as raised:
        client.graphs.upload(tmp_path / "missing.json")
    assert raised.value.filename == str(tmp_path / "missing.json")


def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, busy(100))
    with pytest.raises(TryLater, match="detail 503"):
        script.client(patience=60).get("/saes")
    assert script.waited == []
    script = Script(monkeypatch, busy(0))
    with pytest.raises(TryLater):
        script.client(patience=0).get("/saes")
    plain = httpx.Response(503, json=problem(503))
    with pytest.raises(TryLater):
        Script(monkeypatch, plain).client().get("/saes")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, NotAuthorised),
        (403, NotAuthorised),
        (404, NotFound),
        (409, Conflict),
        (418, ApiError),
        (422, InvalidRequest),
        (429, TryLater),
        (500, ServerFault),
        (502, ServerFault),
        (503, TryLater),
    ],
)
def test_each_status_is_an_error_of_its_kind(
    monkeypatch: pytest.MonkeyPatch, status: int, kind: type[ApiError]
) -> None:
    response = httpx.Response(status, json=problem(status, request_id="r"))
    with pytest.raises(ApiError) as caught:
        Script(monkeypatch, response).client().get("/saes")
    error = caught.value
    assert type(error) is kind and error.status == status and str(error) == f"detail {status}"
    assert error.problem is not None and error.problem.request_id == "r" and error.faults == []
    for content in (b"<html>", b"[]", b'{"detail": 3}', b""):
        with pytest.raises(kind, match=f"answered {status}") as caught:
            Script(monkeypatch, httpx.Response(status, content=content)).client().get("/saes")
        assert caught.value.problem is None


def test_faults_are_lines_and_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [{"path": "a.b", "message": "is wrong"}, {"path": "", "message": "give one"}]
    response = httpx.Response(422, json=problem(422, errors=faults))
    with pytest.raises(InvalidRequest) as caught:
        Script(monkeypatch, response).client().get("/saes")
    assert str(caught.value) == "a.b: is wrong\ngive one"
    assert [each.model_dump() for each in caught.value.faults] == faults


CONCEPT = {"kind": "concept", "name": "n", "sae": "s", "targets": ["a"], "retain": ["b"]}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c: c.post("/runs", {**CONCEPT, "scale": float("nan")}), "scale: a finite number"),
        (lambda c: c.put("/x", {"a": [{"b": 1.0}, {"b": float("-inf")}]}), "a.1.b: a finite"),
        (lambda c: c.patch("/x", float("inf")), "body: a finite number"),
        # Null is "on average" here.
        (lambda c: c.runs.submit({**CONCEPT, "confidence": float("nan")}), "confidence: a finite"),
        (lambda c: c.post("/x", {"a": object()}), "not JSON"),
        (lambda c: c.runs.submit({**CONCEPT, "top_k": object()}), "not JSON"),
        (lambda c: c.post("/x", {"a": "\udcff"}), "no UTF-8"),
        (lambda c: c.runs.submit({**CONCEPT, "name": "\udcff"}), "no UTF-8"),
    ],
)
def test_what_is_no_json_is_not_sent(
    call: Callable[[monosemy.Client], Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(monkeypatch, httpx.Response(200, json={}))
    with pytest.raises(MonosemyError, match=words):
        call(script.client())
    assert script.requests == []


def test_a_plain_body_is_sent_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, httpx.Response(200, json={}))
    script.client().post("/x", {"é": [1, 2.5, None]})
    script.client().post("/x", None)
    sent, empty = script.requests
    assert json.loads(sent.content) == {"é": [1, 2.5, None]} and empty.content == b""
    assert sent.headers["Content-Type"] == "application/json"


def test_nobody_there_and_no_address() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    client = monosemy.Client("http://service.test", transport=httpx.MockTransport(refuse))
    for call in (lambda: client.get("/x"), lambda: client.inference.steer("s", "x", features={})):
        with pytest.raises((ServiceUnreachable, SpecError)):
            call()
    with pytest.raises(ServiceUnreachable, match="monosemy up"):
        client.saes.get("demo")
    with pytest.raises(InvalidRequest, match="not an address"):
        monosemy.Client("http://service.test:port")
    for name in ("", ".", ".."):
        with pytest.raises(NotFound, match="names nothing"):
            segment(name)
    with pytest.raises(InvalidRequest, match="UTF-8"):
        segment("\ud800")


def test_what_is_no_answer_of_monosemy(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"id": ID, "name": "m", "spec": {}, "info": {}, "saes": 1}
    whole = {**row, "created_at": "2026-01-01T00:00:00Z"}
    (model,) = Script(monkeypatch, page({**whole, "new": 1})).client().models.list()
    assert isinstance(model, ModelSummary) and model.name == "m"
    for answer in (page(row), httpx.Response(200, text="<html>"), page({**whole, "saes": "x"})):
        with pytest.raises(NotMonosemy, match="same version"):
            list(Script(monkeypatch, answer).client().models.list())


def steering(*events: tuple[str, Any]) -> httpx.Response:
    blocks = [f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events]
    return httpx.Response(200, text="".join(blocks))


def test_a_stream_that_ends_badly(monkeypatch: pytest.MonkeyPatch) -> None:
    def bare(name: str) -> tuple[str, Any]:
        data = {key: value for key, value in EXAMPLES[name].items() if key != "event"}
        return EXAMPLES[name]["event"], data

    begun, token, end = (bare(name) for name in ("SteeringBegun", "TokenEvent", "EndEvent"))

    def events(*given: tuple[str, Any]) -> list[str]:
        client = Script(monkeypatch, steering(*given)).client()
        with client.inference.steer("demo", "x", features={1: 1.0}) as stream:
            return [event.event for event in stream]

    assert events(begun, token, ("news", {}), end) == ["prompt", "token", "end"]
    with pytest.raises(ServerFault, match="KeyError"):
        events(begun, token, ("error", {"detail": "KeyError", "status": 502}))
    with pytest.raises(TryLater, match="memory"):
        events(begun, ("error", {"detail": "no memory"}))
    with pytest.raises(ApiError, match="broke off"):
        events(begun, token)
    with pytest.raises(NotMonosemy):
        events(("prompt", {"text": 3}))


def test_half_an_event_is_none() -> None:
    lines = ["id: 4", "event: a", "data: 1", "data:2", "", ": a remark", "", "data: 3", "", "id: 9"]
    assert list(server_events([*lines, "data: 4"])) == [
        ServerEvent("4", "a", "1\n2"),
        ServerEvent("4", "", "3"),
    ]


def test_a_download_that_breaks_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def pieces() -> Any:
        yield b"half"
        raise httpx.ReadError("gone")

    to = tmp_path / "features.arrow"
    broken = Script(monkeypatch, httpx.Response(200, content=pieces()))
    with pytest.raises(ServiceUnreachable):
        broken.client().exports.features("demo", to)
    assert list(tmp_path.iterdir()) == []
    whole = Script(monkeypatch, httpx.Response(200, content=b"whole"))
    assert whole.client().exports.features("demo", to) == 5 and to.read_bytes() == b"whole"
    assert whole.requests[0].url.path == "/api/v1/saes/demo/features.arrow"


def test_the_environment_names_service_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONOSEMY_URL", "http://elsewhere.test/")
    monkeypatch.setenv("MONOSEMY_API_KEY", "secret-key")
    script = Script(monkeypatch, page())
    client = monosemy.Client(transport=httpx.MockTransport(script))
    list(client.saes.list())
    assert str(script.requests[0].url).startswith("http://elsewhere.test/api/v1/saes")
    assert script.requests[0].headers["X-API-Key"] == "secret-key"
    assert "secret-key" not in repr(client)


def test_a_query_in_a_path_is_refused_and_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, page())
    with script.client() as client, pytest.raises(InvalidRequest, match="Give it as parameters"):
        client.get("/graphs?run=1")
    assert not script.requests
