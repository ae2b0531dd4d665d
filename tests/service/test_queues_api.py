"""Queues and priorities over REST; submissions that are made once."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select, text

from monosemy.workspace import fingerprint
from service.app import create_app
from service.database.session import transaction
from service.database.tables import Run, Submission
from service.settings import Settings
from tests.support.keys import fresh_key

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("nothing_queued")]

API = "/api/v1"
TRAIN = {"kind": "train", "name": "once"}


def count(engine: Engine) -> int:
    with transaction(engine) as session:
        return int(session.execute(text("SELECT count(*) FROM runs")).scalar_one())


def test_queues_are_listed_paused_and_limited(client: TestClient) -> None:
    client.post(f"{API}/runs", json=TRAIN)
    gpu, interp = client.get(f"{API}/queues").json()["items"]
    assert (gpu["name"], gpu["queued"], gpu["running"], gpu["paused"]) == ("gpu", 1, 0, False)
    assert interp["max_running"] is None and interp["changed_at"] is None
    paused = client.patch(f"{API}/queues/gpu", json={"paused": True, "max_running": 4}).json()
    assert paused["paused"] and paused["max_running"] == 4 and paused["changed_at"]
    again = client.patch(f"{API}/queues/gpu", json={"max_running": 0}).json()
    assert again["paused"] and again["max_running"] is None
    for path, body in (("cpu", {}), ("gpu", {"max_running": -1}), ("gpu", {"pause": True})):
        assert client.patch(f"{API}/queues/{path}", json=body).status_code == 422


def test_only_administrators_change_queues(settings: Settings, engine: Engine) -> None:
    secret = "a-secret-of-thirty-two-characters"
    closed = settings.model_copy(update={"require_keys": True, "secret": secret})
    with transaction(engine) as session:
        keys = {scope: fresh_key(session, scope, [scope], secret) for scope in ("run", "admin")}
    with TestClient(create_app(closed), base_url="http://127.0.0.1:8420") as client:
        for scope, status in (("run", 403), ("admin", 200)):
            answer = client.patch(
                f"{API}/queues/gpu", json={"paused": False}, headers={"X-API-Key": keys[scope]}
            )
            assert answer.status_code == status


def test_priorities(client: TestClient) -> None:
    run = client.post(f"{API}/runs", json=TRAIN, params={"priority": 7}).json()
    assert run["priority"] == 7
    changed = client.patch(f"{API}/runs/{run['id']}", json={"priority": -2})
    assert changed.json()["priority"] == -2
    for wrong in ({"priority": 101}, {"priority": "high"}, {}):
        assert client.patch(f"{API}/runs/{run['id']}", json=wrong).status_code == 422
    assert client.post(f"{API}/runs", json=TRAIN, params={"priority": 101}).status_code == 422
    assert client.patch(f"{API}/runs/{uuid.uuid4()}", json={"priority": 1}).status_code == 404
    client.post(f"{API}/runs/{run['id']}/cancel")
    assert client.patch(f"{API}/runs/{run['id']}", json={"priority": 1}).status_code == 409


def send(client: TestClient, key: str, body: Any = TRAIN) -> Any:
    return client.post(f"{API}/runs", json=body, headers={"Idempotency-Key": key})


def test_a_submission_sent_again_is_the_same_run(client: TestClient, engine: Engine) -> None:
    first, again, other = send(client, "a-1"), send(client, "a-1"), send(client, "a-2")
    assert [answer.status_code for answer in (first, again, other)] == [201] * 3
    assert first.json()["id"] == again.json()["id"] != other.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert again.headers["location"] == first.headers["location"]
    assert count(engine) == 2
    clash = send(client, "a-1", {"kind": "train", "name": "other"})
    assert clash.status_code == 422
    assert clash.json()["type"] == "urn:monosemy:problem:idempotency-key-reused"
    for wrong in ("", "x" * 201, "a b"):
        assert send(client, wrong).status_code == 422
    assert count(engine) == 2


def test_a_submission_that_an_earlier_version_took_is_the_same_run(
    client: TestClient, engine: Engine
) -> None:
    """Of one explainer the spec had the options of all, which its dump and so its digest had."""
    spec = {"kind": "pipeline", "name": "once", "explanation": {"examples": 7}}
    first = send(client, "d", spec).json()["id"]
    runs = count(engine)
    with transaction(engine) as session:
        run = session.get_one(Run, uuid.UUID(first))
        submission = session.scalars(select(Submission)).one()
        flat = {"token_change": False, "candidates": ["default", "contrastive", "output_centric"]}
        run.spec = {**run.spec, "explanation": {**run.spec["explanation"], **flat}}
        submission.digest = fingerprint(run.spec)
    again = send(client, "d", spec)
    assert (again.status_code, again.json()["id"]) == (201, first)
    assert again.headers["idempotency-replayed"] == "true"
    spec["explanation"] = {"examples": 8}
    assert send(client, "d", spec).status_code == 422
    assert count(engine) == runs


def test_a_submission_that_failed_leaves_the_key_free(client: TestClient) -> None:
    assert send(client, "b", {"kind": "score", "sae": "nobody"}).status_code == 422
    assert send(client, "b").status_code == 201


def test_many_at_once_are_one(client: TestClient, engine: Engine) -> None:
    barrier = threading.Barrier(8)

    def one(_: int) -> str:
        barrier.wait()
        return str(send(client, "c").json()["id"])

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(one, range(8)))) == 1
    assert count(engine) == 1


def test_keys_are_forgotten_after_a_day(client: TestClient, engine: Engine) -> None:
    first = send(client, "d").json()["id"]
    with transaction(engine) as session:
        session.execute(text("UPDATE submissions SET created_at = now() - interval '25 hours'"))
    assert send(client, "d").json()["id"] != first
