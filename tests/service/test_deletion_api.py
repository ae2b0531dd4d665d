"""SAEs and runs deleted over REST: their rows go, and nobody else's."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from service.app import create_app
from service.database.session import transaction
from service.settings import Settings
from tests.support.keys import fresh_key
from tests.support.library_rows import Library, add_explanation, add_library

pytestmark = pytest.mark.integration

API = "/api/v1"
TRAIN = {"kind": "train", "name": "once"}


@pytest.fixture
def saes(engine: Engine) -> Iterator[dict[str, Library]]:
    with transaction(engine) as session:
        added = {name: add_library(session, name, features=5) for name in ("going", "staying")}
        for library in added.values():
            add_explanation(session, library, 1, "label", "Said of it.", 0.5)
    yield added
    empty(engine)


@pytest.fixture(autouse=True)
def nothing_left(engine: Engine) -> Iterator[None]:
    yield
    empty(engine)


def empty(engine: Engine) -> None:
    with transaction(engine) as session:
        for table in ("runs", "saes", "contexts", "documents", "models", "feature_lists"):
            session.execute(text(f"DELETE FROM {table}"))


def count(engine: Engine, table: str) -> int:
    with transaction(engine) as session:
        return int(session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def end(engine: Engine, state: str) -> None:
    with transaction(engine) as session:
        session.execute(text("UPDATE runs SET state = :s, finished_at = now()"), {"s": state})


@contextmanager
def closed(
    settings: Settings, engine: Engine, *names: str
) -> Iterator[tuple[TestClient, dict[str, Any]]]:
    """The API in key mode, and keys' headers by name; ``other`` is a second key that may run."""
    secret = "a-secret-of-thirty-two-characters"
    app = create_app(settings.model_copy(update={"require_keys": True, "secret": secret}))
    keys = {}
    with transaction(engine) as session:
        for name in names:
            scope = "run" if name == "other" else name
            keys[name] = {"X-API-Key": fresh_key(session, name, [scope], secret)}
    with TestClient(app, base_url="http://127.0.0.1:8420") as client:
        yield client, keys


def test_an_sae_goes_with_its_rows(
    client: TestClient, engine: Engine, saes: dict[str, Library]
) -> None:
    client.post(f"{API}/lists", json={"name": "both"})
    for name in saes:
        client.post(f"{API}/saes/{name}/features/2/tags", json={"tags": ["tagged"]})
        entries = [{"sae": name, "feature": 2}]
        client.post(f"{API}/lists/both/entries", json={"entries": entries})
    tables = ("saes", "features", "explanations", "scores", "feature_tags", "feature_list_entries")
    before = [count(engine, table) for table in tables]
    assert before == [2, 10, 2, 2, 2, 2]
    assert client.delete(f"{API}/saes/going").status_code == 204
    assert [count(engine, table) for table in tables] == [number // 2 for number in before]
    assert client.get(f"{API}/saes/going").status_code == 404
    assert client.delete(f"{API}/saes/going").status_code == 404
    staying = client.get(f"{API}/saes/staying").json()
    counts = {"indexed": 5, "explained": 1, "scored": 1, "scorers": {"detection": 1}}
    assert staying["features"] == counts


@pytest.mark.parametrize("by_id", [True, False])
def test_an_sae_that_is_worked_on_stays(
    client: TestClient, engine: Engine, saes: dict[str, Library], by_id: bool
) -> None:
    reference = str(saes["going"].sae) if by_id else "going"
    client.post(f"{API}/runs", json={"kind": "index", "sae": reference})
    answer = client.delete(f"{API}/saes/going")
    assert answer.status_code == 409 and "index run" in answer.json()["detail"]
    assert count(engine, "features") == 10
    assert client.delete(f"{API}/saes/staying").status_code == 204
    end(engine, "cancelled")
    assert client.delete(f"{API}/saes/{saes['going'].sae}").status_code == 204


def test_only_administrators_delete_saes(
    settings: Settings, engine: Engine, saes: dict[str, Library]
) -> None:
    with closed(settings, engine, "run", "admin") as (client, keys):
        for name, status in (("run", 403), ("admin", 204)):
            answer = client.delete(f"{API}/saes/going", headers=keys[name])
            assert answer.status_code == status


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_a_run_that_has_ended_goes(client: TestClient, engine: Engine, state: str) -> None:
    run = client.post(f"{API}/runs", json=TRAIN).json()["id"]
    other = client.post(f"{API}/runs", json=TRAIN).json()["id"]
    end(engine, state)
    assert client.delete(f"{API}/runs/{run}").status_code == 204
    for path in ("", "/events"):
        assert client.get(f"{API}/runs/{run}{path}").status_code == 404
    assert client.get(f"{API}/runs/{other}").status_code == 200
    assert (count(engine, "runs"), count(engine, "run_events")) == (1, 1)
    assert client.delete(f"{API}/runs/{run}").status_code == 404
    assert client.delete(f"{API}/runs/x").status_code == 422


@pytest.mark.parametrize("state", ["queued", "running", "cancelling"])
def test_a_run_that_has_not_ended_stays(client: TestClient, engine: Engine, state: str) -> None:
    run = client.post(f"{API}/runs", json=TRAIN).json()["id"]
    with transaction(engine) as session:
        session.execute(text("UPDATE runs SET state = :s"), {"s": state})
    answer = client.delete(f"{API}/runs/{run}")
    assert answer.status_code == 409 and state in answer.json()["detail"]
    assert count(engine, "runs") == 1


def test_a_pipeline_goes_as_a_whole(
    client: TestClient, engine: Engine, saes: dict[str, Library]
) -> None:
    pipeline = client.post(f"{API}/runs", json={"kind": "pipeline", "name": "p"}).json()
    step = pipeline["children"][0]["id"]
    end(engine, "succeeded")
    with transaction(engine) as session:
        session.execute(text("UPDATE saes SET run_id = :run WHERE name = 'staying'"), {"run": step})
        session.execute(text("UPDATE explanations SET run_id = :run"), {"run": step})
    answer = client.delete(f"{API}/runs/{step}")
    assert answer.status_code == 409 and pipeline["id"] in answer.json()["detail"]
    assert client.delete(f"{API}/runs/{pipeline['id']}").status_code == 204
    assert (count(engine, "runs"), count(engine, "run_events")) == (0, 0)
    assert client.get(f"{API}/saes/staying").json()["run_id"] is None
    assert count(engine, "explanations") == 2


def test_runs_are_deleted_by_whoever_submitted_them(settings: Settings, engine: Engine) -> None:
    with closed(settings, engine, "run", "other", "admin") as (client, keys):
        runs = [
            client.post(f"{API}/runs", json=TRAIN, headers=keys["run"]).json()["id"]
            for _ in range(2)
        ]
        end(engine, "failed")
        answer = client.delete(f"{API}/runs/{runs[0]}", headers=keys["other"])
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:monosemy:problem:not-the-owner"
        assert client.delete(f"{API}/runs/{runs[0]}", headers=keys["run"]).status_code == 204
        assert client.delete(f"{API}/runs/{runs[1]}", headers=keys["admin"]).status_code == 204
        missing = client.delete(f"{API}/runs/{uuid.uuid4()}", headers=keys["run"])
        assert missing.status_code == 404
