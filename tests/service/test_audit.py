"""Every change leaves an entry: who, what, from where, how it ended; and never a body or a key."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from service.app import create_app
from service.audit import middleware
from service.database.session import transaction
from service.settings import Settings
from tests.support.keys import fresh_key
from tests.support.library_rows import Library

pytestmark = pytest.mark.integration

API = "/api/v1"
SECRET = "a-secret-of-thirty-two-characters"
RUN = {"kind": "train", "name": "planted-body-secret"}


@pytest.fixture(autouse=True)
def nothing_yet(engine: Engine) -> None:
    with transaction(engine) as session:
        for table in ("audit_entries", "runs", "api_keys"):
            session.execute(text(f"DELETE FROM {table}"))


@pytest.fixture
def keys(engine: Engine) -> dict[str, str]:
    with transaction(engine) as session:
        scopes = ("read", "run", "admin")
        return {scope: fresh_key(session, scope, [scope], SECRET) for scope in scopes}


@pytest.fixture
def closed(settings: Settings, keys: dict[str, str]) -> Iterator[TestClient]:
    asked = settings.model_copy(update={"require_keys": True, "secret": SECRET})
    with TestClient(create_app(asked), base_url="http://127.0.0.1:8420") as client:
        yield client


def entries(client: TestClient, sent: str | None = None, **parameters: Any) -> list[dict[str, Any]]:
    headers = {"X-API-Key": sent} if sent else {}
    answer = client.get(f"{API}/audit", headers=headers, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


def test_who_did_what(closed: TestClient, keys: dict[str, str], engine: Engine) -> None:
    as_run = {"X-API-Key": keys["run"], "X-Request-ID": "mine-1"}
    made = closed.post(f"{API}/runs", json=RUN, headers=as_run).json()
    closed.post(f"{API}/runs/{made['id']}/cancel", headers={"X-API-Key": keys["run"]})
    refused = closed.patch(f"{API}/queues/gpu", json={}, headers={"X-API-Key": keys["run"]})
    assert refused.status_code == 403
    closed.post(f"{API}/runs", json=RUN, headers={"X-API-Key": "mnsy_wrong"})  # nobody
    closed.get(f"{API}/runs", headers={"X-API-Key": keys["read"]})  # changes nothing
    patch, cancel, post = entries(closed, keys["admin"])
    assert [(e["method"], e["status"]) for e in (post, cancel, patch)] == [
        ("POST", 201),
        ("POST", 200),
        ("PATCH", 403),
    ]
    assert post["request_id"] == "mine-1" and post["route"] == f"{API}/runs"
    assert cancel["route"] == f"{API}/runs/{{run_id}}/cancel"
    assert cancel["path"] == f"{API}/runs/{made['id']}/cancel"
    assert {e["key_prefix"] for e in (post, cancel, patch)} == {keys["run"][:11]}
    assert entries(closed, keys["admin"], key=post["key_id"]) == [patch, cancel, post]
    assert entries(closed, keys["admin"], key=str(uuid.uuid4())) == []
    with transaction(engine) as session:
        rows = str(session.execute(text("SELECT audit_entries::text FROM audit_entries")).all())
    assert "planted-body-secret" not in rows and keys["run"] not in rows
    forbidden = closed.get(f"{API}/audit", headers={"X-API-Key": keys["run"]})
    assert forbidden.status_code == 403


def test_reading_with_a_body_is_no_change(
    client: TestClient, inference: Any, library: Library
) -> None:
    client.post(f"{API}/inference/activations", json={"sae": "demo", "text": "x"})
    assert entries(client) == []


def test_pages_and_odd_paths(client: TestClient) -> None:
    for number in range(5):
        client.delete(f"{API}/explanations/{uuid.UUID(int=number)}")
    client.delete(f"{API}/lists/%00" + "x" * 600)
    first = client.get(f"{API}/audit", params={"limit": 4}).json()
    rest = client.get(f"{API}/audit", params={"limit": 4, "cursor": first["next_cursor"]}).json()
    entries = first["items"] + rest["items"]
    assert len(entries) == 6 and rest["next_cursor"] is None
    assert [e["id"] for e in entries] == sorted((e["id"] for e in entries), reverse=True)
    assert entries[0]["status"] == 422 and len(entries[0]["path"]) == 500
    assert client.get(f"{API}/audit", params={"cursor": "nonsense"}).status_code == 422


def test_a_lost_entry_fails_nothing(
    client: TestClient, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE audit_entries RENAME TO elsewhere"))
    try:
        assert client.post(f"{API}/runs", json=RUN).status_code == 201
    finally:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO audit_entries"))
    assert "an audit entry is lost" in caplog.text


@pytest.mark.parametrize("ends", ["whole", "in parts", "hung up"])
def test_an_answer_ends_after_its_entry(ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has the answer finds the entry."""
    happened: list[str] = []
    monkeypatch.setattr(middleware, "changes_something", lambda scope: True)
    monkeypatch.setattr(middleware, "_is_known", lambda scope: True)
    monkeypatch.setattr(middleware, "_enter", lambda scope, status: happened.append(str(status)))
    start: dict[str, Any] = {"type": "http.response.start", "status": 201}
    body: dict[str, Any] = {"type": "http.response.body", "body": b"x"}
    parts = {
        "whole": [start, body],
        "in parts": [start, {**body, "more_body": True}, body],
        "hung up": [start, {**body, "more_body": True}],
    }[ends]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in parts:
            await send(message)

    async def send(message: Any) -> None:
        happened.append(message["type"].rpartition(".")[2])

    asyncio.run(middleware.AuditLog(app)({"type": "http", "method": "POST"}, None, send))  # type: ignore[arg-type]
    expected = {
        "whole": ["start", "201", "body"],
        "in parts": ["start", "body", "201", "body"],
        "hung up": ["start", "body", "201"],
    }
    assert happened == expected[ends]
