"""Sixty slow calls of every kind at a time: health answers, and keys share what there is.

The inference server is a stub that does not answer before its gate opens, so nothing here depends
on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, event

from service.app import create_app
from service.database.session import transaction
from service.database.tables import Run
from service.edge.server import ImpatientProtocol
from service.settings import Settings
from tests.support.keys import fresh_key
from tests.support.library_rows import Library, unit
from tests.support.served import served

pytestmark = pytest.mark.integration

SECRET = "a-secret-of-thirty-two-characters"
MANY = 60
PATIENCE = 60.0
"""Far beyond what an answer takes: only what never comes fails."""

TOKENS = {"tokens": [{"id": 2, "text": " king"}], "bos": None}
ACTIVATIONS = {"tokens": TOKENS["tokens"], "saes": [{"features": [[[7, 3.5]]], "chosen": None}]}
CONTRAST = {
    **{"positive": [], "negative": []},
    **{"tokens": 2, "relabellings": 2, "exact": True},
}


class Gate:
    """The inference server; every call waits in it until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.inside = 0
        self.callers: list[str] = []
        self._lock = threading.Lock()

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._handle)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else {}
        with self._lock:
            self.inside += 1
            self.callers.append(str(body.get("text")))
        assert self.opened.wait(PATIENCE)
        path = request.url.path
        if path == "/steer":
            events = [
                {"event": "prompt", "text": "x", "tokens": 1},
                {"event": "end", "steered": "length"},
            ]
            return httpx.Response(200, text="".join(f"{json.dumps(each)}\n" for each in events))
        if path == "/embed":
            return httpx.Response(200, json={"embeddings": [unit(3) for _ in body["texts"]]})
        answers = {"/activations": ACTIVATIONS, "/tokenize": TOKENS, "/contrast": CONTRAST}
        return httpx.Response(200, json=answers.get(path, {}))


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def keyed(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            **{"require_keys": True, "secret": SecretStr(SECRET)},
            **{"inference_places": 4, "inference_queue": 16},
        }
    )


@pytest.fixture
def address(keyed: Settings, gate: Gate, library: Library) -> Iterator[str]:
    with served(create_app(keyed, gate.transport())) as address:
        yield f"{address}/api/v1"
        gate.opened.set()  # or the server waits for what is under way


@pytest.fixture
def keys(engine: Engine) -> list[str]:
    with transaction(engine) as session:
        return [fresh_key(session, name, ["read", "infer", "run"], SECRET) for name in "ab"]


def client(address: str, key: str | None = None) -> httpx.AsyncClient:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(
        base_url=address, headers=headers, limits=limits, timeout=PATIENCE, trust_env=False
    )


async def reached(gate: Gate, wanted: int, calls: list[asyncio.Task[httpx.Response]]) -> None:
    """Returns once so many calls wait at the gate."""
    end = time.monotonic() + PATIENCE
    while gate.inside < wanted:
        assert time.monotonic() < end, [each.result().text for each in calls if each.done()][:3]
        await asyncio.sleep(0.01)


TEXT = {"sae": "demo", "text": "a"}
STEER = {
    "sae": "demo",
    "prompt": "a",
    "compare": False,
    "features": [{"index": 7, "strength": 1.0, "unit": "activation"}],
}
KINDS: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "activations": ("POST", "/inference/activations", TEXT),
    "read": ("POST", "/inference/read", {"saes": [{"sae": "demo"}], "text": "a"}),
    "tokenize": ("POST", "/inference/tokenize", TEXT),
    "contrast": (
        *("POST", "/inference/contrast"),
        {"sae": "demo", "positive": ["a"], "negative": ["b"]},
    ),
    "steer": ("POST", "/inference/steer", STEER),
    "steer stream": ("POST", "/inference/steer", {**STEER, "stream": True}),
    "search": ("GET", "/search?q=kings", None),
    "readiness": ("GET", "/readyz", None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_health_answers_beside_sixty_of(
    kind: str, address: str, gate: Gate, keys: list[str]
) -> None:
    method, path, body = KINDS[kind]

    async def run() -> list[httpx.Response]:
        key = None if kind == "readiness" else keys[0]
        async with client(address, key) as caller, client(address) as nobody:
            calls = [
                asyncio.create_task(caller.request(method, path, json=body)) for _ in range(MANY)
            ]
            wanted = 1 if kind == "readiness" else 3
            await reached(gate, wanted, calls)
            assert (await nobody.get("/healthz")).status_code == 200
            # What is short and needs the database goes on as well.
            assert (await caller.get("/saes")).status_code == (200 if key else 401)
            assert gate.inside == wanted
            gate.opened.set()
            return await asyncio.gather(*calls)

    answers = asyncio.run(run())
    codes = {each.status_code for each in answers}
    if kind == "readiness":
        assert codes == {503}  # no Redis here
        assert gate.inside <= 3  # and few looks for all of them
    elif kind == "search":
        assert codes == {200}
        modes = [each.json()["mode"] for each in answers]
        assert {"hybrid", "lexical"} == set(modes)
        reasons = {each.json()["reason"] for each in answers if each.json()["mode"] == "lexical"}
        assert len(reasons) == 1 and "busy" in str(reasons)
    else:
        assert codes == {200, 503}
        for each in answers:
            if each.status_code == 503:
                assert each.json()["type"] == "urn:monosemy:problem:busy"
                assert int(each.headers["retry-after"]) > 0


def test_two_keys_share_the_places(address: str, gate: Gate, keys: list[str]) -> None:
    """The first asks for far more than there is; the second is served meanwhile."""

    async def run() -> None:
        async with client(address, keys[0]) as greedy, client(address, keys[1]) as other:
            url = "/inference/tokenize"
            calls = [
                asyncio.create_task(greedy.post(url, json={**TEXT, "text": "greedy"}))
                for _ in range(MANY)
            ]
            await reached(gate, 3, calls)
            polite = asyncio.create_task(other.post(url, json={**TEXT, "text": "other"}))
            await reached(gate, 4, calls)
            assert gate.callers == ["greedy"] * 3 + ["other"]
            gate.opened.set()
            assert (await polite).status_code == 200
            await asyncio.gather(*calls)

    asyncio.run(run())


def test_a_stream_whose_caller_leaves_gives_its_place_back(
    keyed: Settings, gate: Gate, library: Library, keys: list[str]
) -> None:
    app = create_app(keyed, gate.transport())
    gate.opened.set()

    async def run(address: str) -> None:
        body = {**STEER, "stream": True}
        async with client(f"{address}/api/v1", keys[0]) as caller:
            for _ in range(8):
                async with caller.stream("POST", "/inference/steer", json=body):
                    pass  # hung up on before anything is read
            assert (await caller.post("/inference/steer", json=STEER)).status_code == 200
        places = app.state.context.lanes.inference
        for _ in range(1000):
            if not places.taken:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{places.taken} places are still taken")

    with served(app) as address:
        asyncio.run(run(address))


SHORT = {
    "event streams": "/runs/{run}/events",
    "reports": "/saes/demo/report",
    "metrics": "/metrics",
    "exports": "/saes/demo/features.parquet",
    "the OpenAPI document": "/openapi.json",
    "keys that are none": "/saes",
}


@pytest.mark.parametrize("kind", SHORT)
def test_health_answers_beside_a_database_that_is_slow_for(
    kind: str, keyed: Settings, gate: Gate, library: Library, keys: list[str], engine: Engine
) -> None:
    """Every statement of the API waits for the gate: whatever needs the database stands still."""
    app = create_app(keyed, gate.transport())
    with transaction(engine) as session:
        run = Run(kind="train", queue="gpu", spec={})
        session.add(run)
        session.flush()
        path = SHORT[kind].format(run=run.id)

    async def ask(address: str) -> None:
        key = "mnsy_" + "0" * 38 if kind == "keys that are none" else keys[0]
        async with client(f"{address}/api/v1", key) as caller, client(address) as nobody:
            calls = [asyncio.create_task(caller.get(path)) for _ in range(MANY)]
            await asyncio.sleep(0.2)
            for where in ("/healthz", "/api/v1/healthz"):
                assert (await nobody.get(where)).status_code == 200
            if kind in ("keys that are none", "the OpenAPI document"):
                wanted = 401 if kind == "keys that are none" else 200
                codes = {each.status_code for each in await asyncio.gather(*calls)}
                assert codes == {wanted}
            gate.opened.set()
            for each in calls:
                each.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    def wait(*_: object) -> None:
        assert gate.opened.wait(PATIENCE)

    with served(app) as address:
        event.listen(app.state.context.engine, "before_cursor_execute", wait)
        asyncio.run(ask(address))


# -------------------------------------------------------------------- callers that dawdle
@pytest.fixture
def impatient(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, library: Library
) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr("service.edge.server.HEADER_SECONDS", 0.4)
    monkeypatch.setattr("service.edge.server.STALL_SECONDS", 0.4)
    hasty = settings.model_copy(update={"body_idle_seconds": 0.4, "body_least_rate": 1e6})
    with served(create_app(hasty)) as address:
        yield "127.0.0.1", int(address.rpartition(":")[2])


def answer_to(where: tuple[str, int], *sent: bytes, pause: float = 0.0) -> bytes:
    """All that comes back until the server hangs up."""
    with socket.create_connection(where, PATIENCE) as connection:
        for part in sent:
            try:
                connection.sendall(part)
            except OSError:
                break
            time.sleep(pause)
        got = b""
        try:
            while part := connection.recv(65536):
                got += part
        except ConnectionError:
            pass
        return got


def head(method: str, path: str, length: int, kind: str = "application/json") -> bytes:
    return (
        f"{method} /api/v1{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def test_headers_that_do_not_come_end_the_connection(impatient: tuple[str, int]) -> None:
    assert answer_to(impatient) == b""
    assert answer_to(impatient, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n") == b""
    dripping = [f"X-{number}: x\r\n".encode() for number in range(40)]
    first = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    assert answer_to(impatient, first, *dripping, pause=0.05) == b""


MULTIPART = "multipart/form-data; boundary=x"
BEGUN = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.zip"\r\n\r\n'


@pytest.mark.parametrize(
    ("request_head", "body"),
    [
        (head("POST", "/runs", 1000), b'{"kind": '),
        (head("POST", "/inference/tokenize", 1000), b""),
        (head("POST", "/saes/uploads", 10_000_000, MULTIPART), BEGUN),
    ],
    ids=["JSON", "nothing", "upload"],
)
def test_a_body_that_stalls_is_ended(
    impatient: tuple[str, int], request_head: bytes, body: bytes
) -> None:
    got = answer_to(impatient, request_head, body)
    assert got.startswith(b"HTTP/1.1 408 ")
    assert b"urn:monosemy:problem:body-too-slow" in got


def test_an_upload_that_drips_is_ended_and_leaves_nothing(
    impatient: tuple[str, int], settings: Settings
) -> None:
    drops = [b"x" * 10] * 40
    upload = head("POST", "/saes/uploads", 10_000_000, MULTIPART)
    got = answer_to(impatient, upload, BEGUN, *drops, pause=0.05)
    assert got.startswith(b"HTTP/1.1 408 ")
    left = list((settings.artifacts / "uploads").iterdir())
    assert not left


def test_a_reader_that_takes_nothing_is_hung_up_on(
    impatient: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for more than the buffers hold, and reads nothing; the server ends it by itself."""
    lost: dict[int, threading.Event] = defaultdict(threading.Event)
    ended = ImpatientProtocol.connection_lost

    def noting(protocol: ImpatientProtocol, exc: Exception | None) -> None:
        if protocol.client:
            lost[protocol.client[1]].set()
        ended(protocol, exc)

    monkeypatch.setattr(ImpatientProtocol, "connection_lost", noting)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(impatient)
        request = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        connection.sendall(request * 40)
        assert lost[connection.getsockname()[1]].wait(PATIENCE)


def test_a_slow_but_steady_body_is_taken(settings: Settings, tmp_path: Path) -> None:
    patient = settings.model_copy(update={"body_idle_seconds": 5.0, "body_least_rate": 1.0})
    body = json.dumps({"kind": "nothing"}).encode()
    parts = [body[i : i + 4] for i in range(0, len(body), 4)]
    with served(create_app(patient)) as address:
        where = ("127.0.0.1", int(address.rpartition(":")[2]))
        closing = head("POST", "/runs", len(body)).replace(
            b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"
        )
        got = answer_to(where, closing, *parts, pause=0.05)
    assert got.startswith(b"HTTP/1.1 422 ")
