"""GET /runs/{id}/training: the curves of a run, live and finished."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from monosemy.training.page import density_histogram
from service.database.session import transaction
from service.database.tables import Run, RunEvent

pytestmark = pytest.mark.integration


def add_run(engine: Engine, told: int, state: str, **more: Any) -> uuid.UUID:
    with transaction(engine) as session:
        run = Run(**{"kind": "train", "queue": "gpu", "spec": {"name": "<x>"}, **more}, state=state)
        session.add(run)
        session.flush()
        for number in range(1, told + 1):
            metrics = {"fvu": 1 / number, "l0": 4.0, "dead": 0.1, "loss": 1 / number}
            data = {"stage": "train", "done": number * 10, "metrics": metrics}
            session.add(RunEvent(run_id=run.id, type="progress", data=data))
        filling = {"stage": "train", "done": 0, "metrics": {"buffer_filled": 0.5}}
        session.add(RunEvent(run_id=run.id, type="progress", data=filling))
        session.add(RunEvent(run_id=run.id, type="progress", data={"stage": "index", "done": 3}))
        return run.id


def points(page: str) -> list[int]:
    return [len(d.split(" L")) for d in re.findall(r'<path class="a" d="M([^"]*)"', page)]


def test_a_running_training_is_drawn_and_drawn_again(client: TestClient, engine: Engine) -> None:
    run = add_run(engine, 30, "running")
    answer = client.get(f"/api/v1/runs/{run}/training")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    assert points(answer.text) == [30, 30, 30, 30]
    assert 'http-equiv="refresh"' in answer.text and "&lt;x&gt;" in answer.text
    assert "style-src 'unsafe-inline'" in answer.headers["content-security-policy"]


def test_a_long_training_is_thinned_and_keeps_its_end(client: TestClient, engine: Engine) -> None:
    run = add_run(engine, 1001, "failed")
    page = client.get(f"/api/v1/runs/{run}/training").text
    assert 200 < points(page)[0] <= 400
    assert "10,010 tokens" in page and "refresh" not in page


def test_a_pipeline_shows_the_curves_and_bars_of_its_step(
    client: TestClient, engine: Engine
) -> None:
    with transaction(engine) as session:
        pipeline = Run(kind="pipeline", queue="none", state="succeeded", spec={})
        session.add(pipeline)
        session.flush()
        parent = pipeline.id
    result = {"metrics": {"density": density_histogram([0.1, 0.0])}}
    add_run(engine, 5, "succeeded", parent_id=parent, result=result)
    page = client.get(f"/api/v1/runs/{parent}/training").text
    assert points(page) == [5, 5, 5, 5] and "1 of 2 silent" in page


def test_before_the_first_reading_there_are_empty_axes(client: TestClient, engine: Engine) -> None:
    run = add_run(engine, 0, "queued")
    answer = client.get(f"/api/v1/runs/{run}/training")
    assert answer.status_code == 200 and points(answer.text) == []


def test_an_unknown_run_is_not_found(client: TestClient) -> None:
    assert client.get(f"/api/v1/runs/{uuid.uuid4()}/training").status_code == 404
    assert client.get("/api/v1/runs/x/training").status_code == 422
