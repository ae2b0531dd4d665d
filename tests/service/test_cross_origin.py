"""Pages of other origins: let in by name only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr, ValidationError

from service.app import create_app
from service.settings import Settings

pytestmark = pytest.mark.integration

HERE, THERE = "https://notebooks.example", "https://evil.example"
ASKING = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}


@pytest.fixture
def open_to_one(settings: Settings) -> Iterator[TestClient]:
    given = {
        "require_keys": True,
        "secret": SecretStr("a-secret-of-thirty-two-characters"),
        "cors_origins": f"{HERE}, http://localhost:8888",
    }
    with TestClient(create_app(settings.model_copy(update=given))) as client:
        yield client


def test_a_named_origin_may_ask_and_read_errors_too(open_to_one: TestClient) -> None:
    for origin in (HERE, "http://localhost:8888"):
        asked = open_to_one.options("/api/v1/runs", headers={"Origin": origin, **ASKING})
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == origin
        answer = open_to_one.get("/api/v1/runs", headers={"Origin": origin})
        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == origin
        assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", [THERE, "https://notebooks.example.evil.example", "null"])
def test_no_other_origin_may(open_to_one: TestClient, origin: str) -> None:
    asked = open_to_one.options("/api/v1/runs", headers={"Origin": origin, **ASKING})
    assert asked.status_code == 400
    answer = open_to_one.get("/api/v1/healthz", headers={"Origin": origin})
    assert "access-control-allow-origin" not in answer.headers


def test_by_default_none_may(client: TestClient) -> None:
    asked = client.options("/api/v1/runs", headers={"Origin": "http://127.0.0.1:1", **ASKING})
    assert asked.status_code == 405
    assert "access-control-allow-origin" not in asked.headers


@pytest.mark.parametrize(
    "value", ["notebooks.example", "https://a.example/path", "https://u@a.example", "file:///x"]
)
def test_what_is_no_origin_is_refused_at_the_start(tmp_path: Path, value: str) -> None:
    with pytest.raises(ValidationError, match="is no origin"):
        Settings(home=tmp_path, cors_origins=value)
