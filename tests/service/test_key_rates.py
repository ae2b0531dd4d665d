"""How often keys may call, which may have the model run, and when they end."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from service.app import create_app
from service.cli.main import app
from service.database.session import transaction
from service.keys.rates import KeyRates
from service.settings import Settings
from service.stack.valkey import EmbeddedValkey
from tests.support.keys import fresh_key
from tests.support.library_rows import Library

pytestmark = pytest.mark.integration

SECRET = "a-secret-of-thirty-two-characters"


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def clients(
    settings: Settings, valkey: EmbeddedValkey, engine: Engine, inference: Any
) -> Iterator[list[TestClient]]:
    """Two replicas of one API that asks for keys."""
    asked = settings.model_copy(
        update={"require_keys": True, "secret": SECRET, "redis_url": valkey.url}
    )
    apps = [create_app(asked, inference.transport()) for _ in range(2)]
    with (
        TestClient(apps[0], base_url="http://127.0.0.1:8420") as one,
        TestClient(apps[1], base_url="http://127.0.0.1:8420") as two,
    ):
        yield [one, two]


def key(engine: Engine, *scopes: str, **limits: Any) -> dict[str, str]:
    with transaction(engine) as session:
        made = fresh_key(
            session, f"k {uuid.uuid4().hex[:8]}", scopes or ("read",), SECRET, **limits
        )
    return {"X-API-Key": made}


def test_a_key_is_held_to_its_rate_over_all_replicas(
    clients: list[TestClient], engine: Engine
) -> None:
    slow, free = key(engine, requests_per_minute=40), key(engine)
    began, passed = time.monotonic(), 0

    def call_until_refused() -> Any:
        nonlocal passed
        while (answer := clients[passed % 2].get("/api/v1/runs", headers=slow)).status_code == 200:
            passed += 1
            assert passed <= 10 + (time.monotonic() - began) / 1.5  # one more every 1.5 s
        assert answer.status_code == 429
        return answer

    refused = call_until_refused()
    assert passed >= 10
    assert 1 <= int(refused.headers["retry-after"]) <= 2
    assert refused.json()["type"] == "urn:monosemy:problem:too-many-requests"
    assert "40 requests a minute" in refused.json()["detail"]
    assert clients[0].get("/api/v1/runs", headers=free).status_code == 200
    before = passed
    time.sleep(1.6)
    call_until_refused()
    assert passed > before


def test_threads_never_get_more_than_there_is(valkey: EmbeddedValkey) -> None:
    rates, who, passed = KeyRates(valkey.url), uuid.uuid4(), []

    def call() -> None:
        for _ in range(25):
            if rates.take(who, 120).allowed:
                passed.append(1)

    threads = [threading.Thread(target=call) for _ in range(4)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 30 <= len(passed) <= 30 + 2 * (time.monotonic() - begin) + 1
    rates.close()


def test_without_redis_nobody_is_held_up() -> None:
    away = KeyRates("redis://127.0.0.1:9/0")
    begin = time.monotonic()
    assert all(away.take(uuid.uuid4(), 1).allowed for _ in range(200))
    assert time.monotonic() - begin < 2, "it is not asked again and again"
    assert KeyRates(None).take(uuid.uuid4(), 1).left is None


def test_reading_alone_does_not_run_the_model(
    clients: list[TestClient], engine: Engine, library: Library
) -> None:
    body = {"sae": "demo", "text": "x"}
    for scope, status in (("read", 403), ("infer", 503), ("run", 503)):
        answer = clients[0].post(
            "/api/v1/inference/activations", json=body, headers=key(engine, scope)
        )
        assert answer.status_code == status, scope
    only = key(engine, "infer")
    assert clients[0].get("/api/v1/runs", headers=only).status_code == 200
    assert clients[0].post("/api/v1/runs", json={}, headers=only).status_code == 403


def test_the_command_sets_end_and_rate(
    monkeypatch: pytest.MonkeyPatch, database_url: str, engine: Engine
) -> None:
    monkeypatch.setenv("MONOSEMY_DATABASE_URL", database_url)
    monkeypatch.setenv("MONOSEMY_SECRET", SECRET)
    made = CliRunner().invoke(
        app,
        ["keys", "create", "timed", "--scopes", "infer", "--expires", "30",
         "--requests-per-minute", "90", "--max-running", "2"],
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    with transaction(engine) as session:
        row = session.execute(
            text(
                "SELECT scopes, max_running, requests_per_minute,"
                " extract(day FROM expires_at - now()) FROM api_keys WHERE name = 'timed'"
            )
        ).one()
    assert tuple(row) == (["infer"], 2, 90, 29)
