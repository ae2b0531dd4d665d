"""What decides by routes rather than by the looks of an address; what callers without a key cannot
make grow; whose forwarded addresses are believed; streams that end with their key."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr, ValidationError
from sqlalchemy import Engine, text

from service.app import create_app
from service.database.session import transaction
from service.database.tables import Run
from service.edge.routing import Router, reads_only
from service.keys import watch
from service.keys.authorize import CanRun
from service.settings import Settings
from tests.support.keys import fresh_key
from tests.support.library_rows import add_library
from tests.support.whole_api import served

pytestmark = pytest.mark.integration

API = "/api/v1"
SECRET = "a-secret-of-thirty-two-characters"
HERE = "http://127.0.0.1:8420"


@pytest.fixture(autouse=True)
def nothing_yet(engine: Engine) -> None:
    with transaction(engine) as session:
        for table in ("audit_entries", "runs", "saes", "models", "contexts", "documents"):
            session.execute(text(f"DELETE FROM {table}"))
        session.execute(text("DELETE FROM feature_lists"))
        session.execute(text("DELETE FROM api_keys"))


@pytest.fixture
def asked(settings: Settings) -> Settings:
    return settings.model_copy(update={"require_keys": True, "secret": SecretStr(SECRET)})


def key(engine: Engine, scope: str = "run") -> str:
    with transaction(engine) as session:
        return fresh_key(session, f"of {scope} {uuid.uuid4().hex[:8]}", [scope], SECRET)


def audited(engine: Engine) -> list[tuple[str, str, int]]:
    with transaction(engine) as session:
        rows = session.execute(text("SELECT method, path, status FROM audit_entries ORDER BY id"))
        return [(row[0], row[1], row[2]) for row in rows]


# ------------------------------------------------------------------ by route
def test_no_name_escapes_the_audit_log(client: TestClient, engine: Engine) -> None:
    with transaction(engine) as session:
        add_library(session, "inference", features=3)
    client.post(f"{API}/lists", json={"name": "inference"})
    entries = {"entries": [{"sae": "inference", "feature": 1}]}
    tags = f"{API}/saes/inference/features/1/tags"
    assert client.post(f"{API}/lists/inference/entries", json=entries).status_code == 200
    assert client.post(f"{API}/lists/%69nference/entries", json=entries).status_code == 200
    assert client.post(tags, json={"tags": ["inference"]}).status_code == 200
    assert client.delete(f"{tags}/inference").status_code == 204
    assert client.delete(f"{API}/lists%2Finference").status_code == 204
    assert [(method, path.rpartition("/")[2]) for method, path, _ in audited(engine)] == [
        ("POST", "lists"),
        ("POST", "entries"),
        ("POST", "entries"),
        ("POST", "tags"),
        ("DELETE", "inference"),
        ("DELETE", "inference"),
    ]


def test_addresses_that_only_look_like_one_reach_nothing(
    client: TestClient, engine: Engine
) -> None:
    client.post(f"{API}/lists", json={"name": "mine"})
    before = audited(engine)
    for path in (
        f"{API}/lists/mine/",
        f"{API}//lists/mine",
        f"/{API}/lists/mine",
        f"{API}/Lists/mine",
        f"{API}/lists/mine/inference/",
        f"{API}/lists/../lists/mine%00/x",
    ):
        for method in ("DELETE", "POST", "PATCH"):
            assert client.request(method, path).status_code in (404, 405), path
    assert client.get(f"{API}/lists/mine").status_code == 200
    assert audited(engine) == before


def test_a_route_that_says_nothing_is_audited(settings: Settings, engine: Engine) -> None:
    router = Router(dependencies=[CanRun])

    @router.post("/inference/said-nothing")
    def changes() -> None:
        """Changes something, for all that anybody knows."""

    @router.post("/inference/reads")
    @reads_only
    def reads() -> None:
        """Says that it does not."""

    app = create_app(settings)
    app.include_router(router)
    with TestClient(app, base_url=HERE, client=("127.0.0.1", 5)) as client:
        for path in ("said-nothing", "reads"):
            assert client.post(f"/inference/{path}").status_code == 200
    assert [path for _, path, _ in audited(engine)] == ["/inference/said-nothing"]


@pytest.mark.parametrize("name", ["healthz", "readyz", "metrics"])
def test_no_name_escapes_the_log_of_requests(
    client: TestClient, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    client.post(f"{API}/lists", json={"name": name})
    with caplog.at_level(logging.DEBUG, "service.edge.middleware"):
        caplog.clear()
        client.delete(f"{API}/lists/{name}")
        client.get(f"/{name}")
        client.get(f"{API}/{name}")
    levels = [r.levelname for r in caplog.records if r.getMessage() == "request"]
    assert levels == ["INFO", "DEBUG", "DEBUG"]


def test_large_bodies_are_for_the_route_that_takes_them(settings: Settings) -> None:
    tight = settings.model_copy(update={"upload_max_bytes": 3 * 2**20})
    body = b" " * (2 * 2**20 + 1)
    with TestClient(create_app(tight), base_url=HERE, client=("127.0.0.1", 5)) as client:
        assert client.post(f"{API}/saes/uploads", content=body).status_code == 415
        assert client.post(f"{API}/saes/uploads", content=body * 2).status_code == 413
        for path in ("lists", "runs", "saes/demo/features/1/tags"):
            assert client.post(f"{API}/{path}", content=body).status_code == 413
        announced = {"Content-Length": "9" * 25}
        assert client.post(f"{API}/lists", headers=announced).status_code == 413


# ------------------------------------------------------------------ growth without a key
def test_nobody_makes_labels_grow(asked: Settings, engine: Engine) -> None:
    with TestClient(create_app(asked), base_url=HERE) as client:
        for number in range(20):
            client.request(f"ODD{number}", f"{API}/lists/{number}")
            client.request(f"ODD{number}", f"{API}/lists")
            client.request("post", f"{API}/lists")
            client.request("PATCH", f"{API}/saes/{number}/features/{number}")
            client.get(f"{API}/saes/name{number}/features/{number}")
            client.get(f"/nowhere/{number}", headers={"Host": f"host{number}.example"})
        metrics = client.get("/metrics", headers={"X-API-Key": key(engine, "read")}).text
    lines = [
        line for line in metrics.splitlines() if line.startswith("monosemy_http_requests_total")
    ]
    assert 0 < len(lines) < 15 and 'method="other"' in metrics
    assert (
        "ODD" not in metrics and "name1" not in metrics and 'route="/api/v1/lists/1' not in metrics
    )


def test_callers_without_a_key_leave_no_rows(asked: Settings, engine: Engine) -> None:
    with TestClient(create_app(asked), base_url=HERE) as client:
        for headers in ({}, {"X-API-Key": "mnsy_wrong"}):
            sent = {"headers": {**headers, "Idempotency-Key": "x"}}
            client.post(f"{API}/runs", json={"kind": "train"}, **sent)
            client.post("/nowhere", json={}, **sent)
            client.patch(f"{API}/runs", json={}, **sent)
            client.post(f"{API}/runs", content=b" " * 3_000_000, **sent)
            client.post(f"{API}/runs?nonsense=1", content=b"{", **sent)
    assert audited(engine) == []
    with transaction(engine) as session:
        for table in ("submissions", "runs"):
            assert session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0


def test_long_paths_are_cut_in_the_log(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "service.edge.middleware"):
        client.request("X" * 300, "/" + "y" * 5000)
    (record,) = [r for r in caplog.records if r.getMessage() == "request"]
    assert len(record.path) == 500 and record.method == "other"  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", [f"{API}/runs", f"{API}/saes/uploads", "/nowhere"])
def test_the_answer_comes_before_the_body(asked: Settings, path: str) -> None:
    """A body is announced and never sent: whoever waited for it would not answer."""
    with served(create_app(asked)) as address:
        port = int(address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as caller:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{{"
            caller.sendall(head.encode())
            status = caller.recv(4096).split(b" ")[1]
    assert status == (b"404" if path == "/nowhere" else b"401")


def test_a_key_is_counted_once_a_request(asked: Settings, engine: Engine) -> None:
    """Routes with two scopes, of the router and of their own, asked for it twice."""
    with TestClient(create_app(asked), base_url=HERE) as client:
        counted: list[Any] = []
        rates = client.app.state.context.rates  # type: ignore[attr-defined]
        rates.take = lambda *given: counted.append(given) or rates_pass()
        with transaction(engine) as session:
            limited = fresh_key(session, "limited", ["admin"], SECRET, requests_per_minute=100)
        client.delete(f"{API}/saes/none", headers={"X-API-Key": limited})
    assert len(counted) == 1


def rates_pass() -> Any:
    from service.keys.rates import Allowance

    return Allowance(True)


# ------------------------------------------------------------------ forwarded addresses
def client_of(settings: Settings, engine: Engine, peer: str, headers: dict[str, str]) -> str:
    """The sender that the audit log has of a request from ``peer``."""
    made = key(engine)
    with TestClient(create_app(settings), base_url=HERE, client=(peer, 5)) as client:
        client.post(f"{API}/runs", json={}, headers={"X-API-Key": made, **headers})
    with transaction(engine) as session:
        return str(session.execute(text("SELECT client FROM audit_entries")).scalar_one())


@pytest.mark.parametrize(
    ("trusted", "peer", "seen"),
    [
        ("", "127.0.0.1", "127.0.0.1"),
        ("", "10.0.0.7", "10.0.0.7"),
        ("10.0.0.7", "10.0.0.8", "10.0.0.8"),
        ("10.0.0.7", "10.0.0.7", "203.0.113.9"),
        ("172.18.0.0/16, 10.0.0.7", "172.18.3.4", "203.0.113.9"),
    ],
)
def test_forwarded_addresses_are_believed_from_whom_the_operator_says(
    asked: Settings, engine: Engine, trusted: str, peer: str, seen: str
) -> None:
    proxied = asked.model_copy(update={"trusted_proxies": trusted})
    headers = {"X-Forwarded-For": "198.51.100.1, 203.0.113.9", "X-Forwarded-Proto": "https"}
    assert client_of(proxied, engine, peer, headers) == seen


@pytest.mark.parametrize("value", ["*", "proxy.example", "10.0.0.0/33", "10.0.0.1/8"])
def test_what_is_no_proxy(value: str) -> None:
    with pytest.raises(ValidationError, match="no address or network"):
        Settings(trusted_proxies=value)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Forwarded-For": "203.0.113.9"}, 403),
        ({"X-Forwarded-For": "127.0.0.1, 203.0.113.9"}, 403),
        ({"X-Real-IP": "203.0.113.9"}, 403),
        ({"Forwarded": 'for="[2001:db8::1]:80";proto=https'}, 403),
        ({"Forwarded": "for=_hidden"}, 403),
        ({"X-Forwarded-For": "127.0.0.1"}, 200),
        ({"Forwarded": 'for="[::1]"'}, 200),
    ],
)
def test_open_mode_behind_a_proxy_serves_this_machine_still(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    assert client.get(f"{API}/runs", headers=headers).status_code == status


# ------------------------------------------------------------------ streams
def end_keys(engine: Engine, how: str) -> None:
    with transaction(engine) as session:
        session.execute(text(f"UPDATE api_keys SET {how} = now() - interval '1 second'"))


@pytest.mark.parametrize("how", ["revoked_at", "expires_at"])
def test_an_event_stream_ends_with_its_key(
    asked: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(watch, "EVERY_SECONDS", 0.1)
    made = key(engine, "read")
    with transaction(engine) as session:
        run = Run(kind="train", queue="gpu", spec={})
        session.add(run)
        session.flush()
        address = f"{API}/runs/{run.id}/events"
    ended = threading.Timer(0.5, end_keys, (engine, how))
    with served(create_app(asked)) as server:
        headers = {"X-API-Key": made}
        with httpx.stream("GET", server + address, headers=headers, timeout=30) as stream:
            ended.start()
            streamed = "".join(stream.iter_text())
    ended.join()
    assert streamed.endswith(": the API key was revoked or has expired\n\n")


async def pieces(number: int, pause: float = 0.0) -> AsyncIterator[str]:
    for each in range(number):
        await asyncio.sleep(pause)
        yield str(each)


async def gathered(source: AsyncIterator[Any]) -> list[Any]:
    return [piece async for piece in source]


def test_what_is_watched_comes_whole_while_the_key_is_good() -> None:
    watched = watch.watched(pieces(50, 0.001), lambda: True, False, every=0.005)
    assert asyncio.run(gathered(watched)) == [str(each) for each in range(50)]


def test_a_file_is_broken_off_and_never_looks_whole() -> None:
    watched = watch.watched(pieces(1000, 0.01), lambda: False, False, every=0.02)
    with pytest.raises(watch.KeyEnded):
        asyncio.run(gathered(watched))


def test_a_silent_stream_ends_too() -> None:
    began = time.monotonic()
    watched = watch.watched(pieces(1, 3600), lambda: False, True, every=0.02)
    assert asyncio.run(gathered(watched)) == [": the API key was revoked or has expired\n\n"]
    assert time.monotonic() - began < 60


def test_what_fails_in_a_stream_fails() -> None:
    async def failing() -> AsyncIterator[str]:
        yield "one"
        raise ValueError("two")

    with pytest.raises(ValueError, match="two"):
        asyncio.run(gathered(watch.watched(failing(), lambda: True, True)))


def test_a_listener_that_leaves_ends_the_source() -> None:
    ended: list[bool] = []

    async def source() -> AsyncIterator[str]:
        try:
            while True:
                yield "more"
                await asyncio.sleep(0.001)
        finally:
            ended.append(True)

    async def listen() -> None:
        watched = watch.watched(source(), lambda: True, True)
        async with contextlib.aclosing(watched) as stream:  # type: ignore[type-var]
            await anext(stream)

    asyncio.run(listen())
    assert ended == [True]


# ------------------------------------------------------------------ CSV
@pytest.fixture
def noted(client: TestClient, engine: Engine) -> Iterator[str]:
    with transaction(engine) as session:
        add_library(session, "=SUM(A1)", features=3)
    client.post(f"{API}/lists", json={"name": "cells"})
    notes = ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "plain = text", "-"]
    for number, note in enumerate(notes[:3]):
        entry = {"sae": "=SUM(A1)", "feature": number, "note": note}
        client.post(f"{API}/lists/cells/entries", json={"entries": [entry]})
    yield f"{API}/lists/cells/export"


def test_no_cell_is_a_formula(client: TestClient, noted: str, tmp_path: Path) -> None:
    import csv
    import io

    rows = list(csv.reader(io.StringIO(client.get(noted).text)))
    assert [row[-1] for row in rows[1:]] == ["'=1+1", "'+1", "'-1"]
    assert {row[0] for row in rows[1:]} == {"'=SUM(A1)"}
    float(rows[1][4])
    lines = client.get(noted, params={"format": "jsonl"}).text.splitlines()
    assert [json.loads(line)["note"] for line in lines] == ["=1+1", "+1", "-1"]
