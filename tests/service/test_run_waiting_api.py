"""What a queued run waits for, its place in the queue, its log, and what it is about."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from service.database.key_tables import ApiKey
from service.database.session import transaction
from service.database.tables import Run, RunEvent
from service.queues.repository import change_queue
from tests.support.keys import fresh_key
from tests.support.library_rows import Library

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("nothing_queued")]

API = "/api/v1"
TRAIN = {"kind": "train", "name": "once"}


def add(engine: Engine, **columns: Any) -> uuid.UUID:
    values: dict[str, Any] = {"kind": "train", "queue": "gpu", "state": "queued", "spec": TRAIN}
    with transaction(engine) as session:
        run = Run(**{**values, **columns})
        session.add(run)
        session.flush()
        return run.id


def waiting(client: TestClient, run: uuid.UUID | str) -> dict[str, Any]:
    answer = client.get(f"{API}/runs/{run}/waiting")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_the_place_is_that_in_which_runs_are_claimed(client: TestClient, engine: Engine) -> None:
    first, second, third = (add(engine) for _ in range(3))
    assert [waiting(client, run)["ahead"] for run in (first, second, third)] == [0, 1, 2]
    assert waiting(client, third)["waits_for"] == "turn"
    client.patch(f"{API}/runs/{third}", json={"priority": 5})
    assert [waiting(client, run)["ahead"] for run in (first, second, third)] == [1, 2, 0]
    add(engine, state="running")
    add(engine, queue="interp")
    add(engine, priority=9, not_before=dt.datetime.now(dt.UTC) + dt.timedelta(hours=1))
    place = waiting(client, third)
    assert (place["ahead"], place["under_way"], place["queue"]) == (0, 1, "gpu")


def test_what_it_waits_for(client: TestClient, engine: Engine) -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    again = waiting(client, add(engine, not_before=later, error="once"))
    assert again["waits_for"] == "time" and again["ahead"] is None
    assert dt.datetime.fromisoformat(again["until"]) == later
    before = add(engine)
    reasons = waiting(client, add(engine, depends_on=before))
    assert (reasons["waits_for"], reasons["depends_on"]) == ("run", str(before))
    for state in ("running", "cancelling", "succeeded", "failed", "cancelled"):
        assert waiting(client, add(engine, state=state))["waits_for"] == "nothing"
    with transaction(engine) as session:
        change_queue(session, "gpu", max_running=1)
    assert waiting(client, before)["waits_for"] == "full queue"
    with transaction(engine) as session:
        change_queue(session, "gpu", paused=True)
    assert waiting(client, before)["waits_for"] == "paused queue"
    assert client.get(f"{API}/runs/{uuid.uuid4()}/waiting").status_code == 404


def test_a_run_of_a_key_that_has_as_many_as_it_may(client: TestClient, engine: Engine) -> None:
    with transaction(engine) as session:
        fresh_key(session, "one", ["run"], "a-secret-of-thirty-two-characters", max_running=1)
        key = session.query(ApiKey.id).scalar()
    add(engine, created_by=key, state="running")
    assert waiting(client, add(engine, created_by=key))["waits_for"] == "full key"


def test_of_a_pipeline_it_is_the_first_step_that_is_queued(client: TestClient) -> None:
    family = client.post(f"{API}/runs", json={"kind": "pipeline", "name": "whole"}).json()
    step = waiting(client, family["id"])
    assert step["run_id"] == family["children"][0]["id"] and step["waits_for"] == "turn"


def test_runs_say_what_they_are_about(client: TestClient, library: Library) -> None:
    train = client.post(f"{API}/runs", json=TRAIN).json()
    assert train["subject"] == "once"
    by_id = client.post(f"{API}/runs", json={"kind": "explain", "sae": str(library.sae)}).json()
    assert by_id["subject"] == library.name and by_id["spec"]["sae"] == str(library.sae)
    family = client.post(f"{API}/runs", json={"kind": "pipeline", "name": "whole"}).json()
    assert family["subject"] == "whole"
    assert [each["subject"] for each in family["children"]][:2] == ["whole", None]
    listed = client.get(f"{API}/runs?parent=none").json()["items"]
    assert {each["subject"] for each in listed} == {"once", library.name, "whole"}


def test_a_subject_that_is_gone_keeps_its_id(client: TestClient, engine: Engine) -> None:
    gone = str(uuid.uuid4())
    run = add(engine, kind="explain", spec={"kind": "explain", "sae": gone})
    assert client.get(f"{API}/runs/{run}").json()["subject"] == gone
    odd = add(engine, spec={"kind": "of a plugin", "name": ["no", "text"], "sae": 5})
    assert client.get(f"{API}/runs/{odd}").json()["subject"] is None


def test_the_log_is_paged_and_leaves_progress_out(client: TestClient, engine: Engine) -> None:
    parent = add(engine, kind="pipeline", queue="none", state="running")
    child = add(engine, parent_id=parent, state="running")
    stranger = add(engine)
    with transaction(engine) as session:
        for number in range(7):
            owner = parent if number % 2 else child
            session.add(RunEvent(run_id=owner, type="log", data={"message": f"line {number}"}))
            session.flush()
        session.add(RunEvent(run_id=child, type="progress", data={"done": 1}))
        session.add(RunEvent(run_id=stranger, type="log", data={"message": "of another"}))
    lines, cursor = [], None
    while True:
        chosen = {"limit": 3, **({"cursor": cursor} if cursor else {})}
        page = client.get(f"{API}/runs/{parent}/log", params=chosen).json()
        lines += [each["data"]["message"] for each in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert lines == [f"line {number}" for number in reversed(range(7))]
    assert client.get(f"{API}/runs/{uuid.uuid4()}/log").status_code == 404
