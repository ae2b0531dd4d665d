"""API keys over REST: made, listed, revoked by administrators, and never to be read again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import Engine, text

from service.app import create_app
from service.database.session import transaction
from service.keys.service import create_key
from service.settings import Settings

pytestmark = pytest.mark.integration

SECRET = "a-secret-of-thirty-two-characters"
KEYS = "/api/v1/keys"


@pytest.fixture
def admin(settings: Settings, engine: Engine) -> Iterator[TestClient]:
    with transaction(engine) as session:
        session.execute(text("DELETE FROM api_keys"))
        key = create_key(session, "root", ["admin"], SECRET)
    asked = settings.model_copy(update={"require_keys": True, "secret": SecretStr(SECRET)})
    with TestClient(create_app(asked), headers={"X-API-Key": key}) as client:
        yield client


def made(admin: TestClient, **changes: Any) -> dict[str, Any]:
    answer = admin.post(KEYS, json={"name": "alice", **changes})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def test_a_key_is_made_used_and_revoked(admin: TestClient) -> None:
    created = made(admin, scopes=["run"], max_running=2, requests_per_minute=600)
    assert created["key"].startswith(created["prefix"]) and created["scopes"] == ["run"]
    own = {"X-API-Key": created["key"]}
    assert admin.get("/api/v1/runs", headers=own).status_code == 200
    assert admin.get(KEYS, headers=own).status_code == 403
    assert admin.post(KEYS, json={"name": "x", "scopes": ["admin"]}, headers=own).status_code == 403
    listed = admin.get(KEYS).json()["items"]
    assert [each["name"] for each in listed] == ["alice", "root"]
    assert created["key"] not in admin.get(KEYS).text and "digest" not in admin.get(KEYS).text
    assert (listed[0]["max_running"], listed[0]["requests_per_minute"]) == (2, 600)
    for _ in range(2):
        assert admin.delete(f"{KEYS}/{created['id']}").status_code == 204
    assert admin.get("/api/v1/runs", headers=own).status_code == 401
    assert admin.get(KEYS).json()["items"][0]["revoked_at"]


def test_a_key_that_has_ended_already_lets_nobody_in(admin: TestClient) -> None:
    created = made(admin, expires_at="2020-01-01T00:00:00Z")
    assert admin.get("/api/v1/runs", headers={"X-API-Key": created["key"]}).status_code == 401


def test_pages(admin: TestClient, walk_pages: Any) -> None:
    for number in range(5):
        made(admin, name=f"key {number}")
    names = [each["name"] for each in walk_pages(admin, KEYS, limit=2)]
    assert names == [*(f"key {number}" for number in range(4, -1, -1)), "root"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": " "},
        {"name": "a\u0000b"},
        {"name": "x" * 201},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["root"]},
        {"name": "x", "expires_at": 1893456000},
        {"name": "x", "expires_at": "2030-01-01T00:00:00"},
        {"name": "x", "max_running": 0},
        {"name": "x", "max_running": True},
        {"name": "x", "key": "mine"},
    ],
)
def test_what_is_no_key(admin: TestClient, body: dict[str, Any]) -> None:
    assert admin.post(KEYS, json=body).status_code == 422


def test_there_is_no_such_key(admin: TestClient) -> None:
    assert admin.delete(f"{KEYS}/00000000-0000-0000-0000-000000000000").status_code == 404
    assert admin.delete(f"{KEYS}/root").status_code == 422


def test_without_a_secret_none_can_be_made(client: TestClient) -> None:
    answer = client.post(KEYS, json={"name": "x"})
    assert answer.status_code == 400 and "MONOSEMY_SECRET" in answer.json()["detail"]
