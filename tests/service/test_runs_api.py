"""Submitting, listing, showing, cancelling and retrying runs."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from service.database.session import transaction
from service.database.tables import Run
from tests.support.bad_names import BAD_NAMES
from tests.support.library_rows import Library

pytestmark = pytest.mark.integration

URL = "/api/v1/runs"
PIPELINE = {"kind": "pipeline", "name": "made", "training": {"tokens": 5000}}


@pytest.fixture(autouse=True)
def no_runs(engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(text("DELETE FROM runs"))


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    queues: list[str] = []
    monkeypatch.setattr("service.runs.submission.wake", lambda url, queue: queues.append(queue))
    return queues


def set_state(engine: Engine, run: str, state: str) -> None:
    with transaction(engine) as session:
        session.execute(
            text("UPDATE runs SET state = :state, finished_at = now() WHERE id = :id"),
            {"state": state, "id": run},
        )


def test_a_pipeline_is_stored_with_its_steps(client: TestClient, announced: list[str]) -> None:
    answer = client.post(URL, json=PIPELINE)
    assert answer.status_code == 201, answer.text
    run = answer.json()
    assert answer.headers["location"] == f"{URL}/{run['id']}"
    assert (run["kind"], run["queue"], run["state"]) == ("pipeline", "none", "queued")
    assert run["spec"]["training"]["tokens"] == 5000
    assert run["spec"]["training"]["batch_tokens"] == 2048  # defaults are filled in
    kinds = [child["kind"] for child in run["children"]]
    assert kinds == ["train", "index", "evaluate", "explain", "score"]
    named = {child["id"]: child["kind"] for child in run["children"]}
    after = [named.get(child["depends_on"]) for child in run["children"]]
    assert after == [None, "train", "index", "index", "explain"]
    assert {child["parent_id"] for child in run["children"]} == {run["id"]}
    assert client.get(answer.headers["location"]).json() == run
    assert announced == ["gpu"]  # nothing for the other queue to do yet


def test_a_single_run_has_no_steps(client: TestClient, announced: list[str]) -> None:
    run = client.post(URL, json={"kind": "train"}).json()
    assert run["children"] == []
    assert run["queue"] == "gpu"
    assert announced == ["gpu"]


@pytest.mark.parametrize("kind", ["train", "sweep", "import", "pipeline"])
@pytest.mark.parametrize("name", BAD_NAMES[:6], ids=ascii)
def test_a_name_that_no_address_holds_is_refused_at_its_field(
    client: TestClient, kind: str, name: str, announced: list[str]
) -> None:
    source = {"source": "release/sae"} if kind == "import" else {}
    refused = client.post("/api/v1/runs", json={"kind": kind, "name": name, **source})
    assert refused.status_code == 422
    assert [each["path"] for each in refused.json()["errors"]] == ["name"]
    assert announced == []


def test_redis_away_does_not_lose_the_run(client: TestClient) -> None:
    """Workers poll: an announcement that fails must not fail the request."""
    run = client.post(URL, json={"kind": "train"})
    assert run.status_code == 201
    assert client.get(f"{URL}/{run.json()['id']}").status_code == 200


def test_an_sae_must_exist(client: TestClient, library: Library, announced: list[str]) -> None:
    for reference in (library.name, str(library.sae)):
        run = client.post(URL, json={"kind": "index", "sae": reference})
        assert run.status_code == 201, run.text
    for reference in ("nothing", str(uuid.uuid4()), "pending"):
        answer = client.post(URL, json={"kind": "index", "sae": reference})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["path"] == "sae"
        assert reference in answer.json()["errors"][0]["message"]


def add_runs(engine: Engine, count: int) -> None:
    """Four runs share each moment of creation; kinds and states vary."""
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    with transaction(engine) as session:
        for number in range(count):
            session.add(
                Run(
                    kind="train" if number % 2 else "index",
                    queue="gpu",
                    state=("queued", "running", "failed")[number % 3],
                    spec={},
                    created_at=start + dt.timedelta(seconds=number // 4),
                )
            )


@pytest.mark.parametrize("limit", [1, 3, 25, 200])
def test_pages_together_are_the_whole(
    client: TestClient, engine: Engine, walk_pages: Any, limit: int
) -> None:
    add_runs(engine, 25)
    items = walk_pages(client, URL, limit=limit)
    keys = [(item["created_at"], item["id"]) for item in items]
    assert len(set(keys)) == 25
    assert keys == sorted(keys, reverse=True)


def test_filters(client: TestClient, engine: Engine, walk_pages: Any) -> None:
    add_runs(engine, 24)
    parent = client.post(URL, json=PIPELINE).json()
    failed = walk_pages(client, URL, state="failed", kind="index", limit=2)
    assert len(failed) == 4
    assert {(item["state"], item["kind"]) for item in failed} == {("failed", "index")}
    steps = walk_pages(client, URL, parent=parent["id"], limit=2)
    assert {item["id"] for item in steps} == {child["id"] for child in parent["children"]}
    top = walk_pages(client, URL, parent="none", limit=10)
    assert len(top) == 25
    assert {item["parent_id"] for item in top} == {None}


def test_cancelling_a_waiting_pipeline_cancels_its_steps(client: TestClient) -> None:
    run = client.post(URL, json=PIPELINE).json()
    answer = client.post(f"{URL}/{run['id']}/cancel")
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "cancelled"
    assert {child["state"] for child in answer.json()["children"]} == {"cancelled"}
    again = client.post(f"{URL}/{run['id']}/cancel")
    assert again.status_code in (200, 409)


def test_retry_takes_a_failed_run_up_again(
    client: TestClient, engine: Engine, announced: list[str]
) -> None:
    run = client.post(URL, json={"kind": "train"}).json()
    announced.clear()
    refused = client.post(f"{URL}/{run['id']}/retry")
    assert refused.status_code == 409, "a queued run is not retried"
    assert refused.headers["content-type"] == "application/problem+json"
    set_state(engine, run["id"], "failed")
    answer = client.post(f"{URL}/{run['id']}/retry")
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "queued"
    assert announced == ["gpu"]


def test_retrying_a_pipeline_wakes_the_queue_of_the_step_that_failed(
    client: TestClient, engine: Engine, announced: list[str]
) -> None:
    run = client.post(URL, json=PIPELINE).json()
    states = ["succeeded", "succeeded", "succeeded", "failed", "cancelled"]
    for child, state in zip(run["children"], states, strict=True):
        set_state(engine, child["id"], state)
    set_state(engine, run["id"], "failed")
    announced.clear()
    answer = client.post(f"{URL}/{run['id']}/retry")
    assert answer.status_code == 200, answer.text
    states = [child["state"] for child in answer.json()["children"]]
    assert states == ["succeeded", "succeeded", "succeeded", "queued", "queued"]
    assert announced == ["interp"]
    explain = run["children"][3]["id"]
    set_state(engine, explain, "failed")
    announced.clear()
    assert client.post(f"{URL}/{explain}/retry").status_code == 200
    assert announced == ["interp"]


def test_a_finished_run_is_not_cancelled(client: TestClient, engine: Engine) -> None:
    run = client.post(URL, json={"kind": "train"}).json()
    set_state(engine, run["id"], "succeeded")
    answer = client.post(f"{URL}/{run['id']}/cancel")
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:monosemy:problem:conflict"
    assert "succeeded" in answer.json()["detail"]


@pytest.mark.parametrize("action", ["", "/events", "/cancel", "/retry"])
def test_unknown_runs(client: TestClient, action: str) -> None:
    method = "POST" if action in ("/cancel", "/retry") else "GET"
    answer = client.request(method, f"{URL}/{uuid.uuid4()}{action}")
    assert answer.status_code == 404
    assert "no run" in answer.json()["detail"]
