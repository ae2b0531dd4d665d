"""GET /runs/{id}/training: readings and curves of a run, live and finished."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from monosemy.specs.readings import TrainingFigures, TrainingReading
from monosemy.training.page import density_histogram
from service.database.session import transaction
from service.database.tables import Run, RunEvent
from service.retention.rows import old_events
from service.runs.readings import Unwritten, write_readings
from service.runs.training import prefers_html

pytestmark = pytest.mark.integration


BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def add_run(engine: Engine, n_readings: int, state: str, **more: Any) -> uuid.UUID:
    with transaction(engine) as session:
        run = Run(**{"kind": "train", "queue": "gpu", "spec": {"name": "<x>"}, **more}, state=state)
        session.add(run)
        session.flush()
        for number in range(1, n_readings + 1):
            metrics = {"fvu": 1 / number, "l0": 4.0, "dead": 0.1, "loss": 1 / number}
            data = {"stage": "train", "done": number * 10, "metrics": metrics}
            session.add(RunEvent(run_id=run.id, type="progress", data=data))
        filling = {"stage": "train", "done": 0, "metrics": {"buffer_filled": 0.5}}
        session.add(RunEvent(run_id=run.id, type="progress", data=filling))
        session.add(RunEvent(run_id=run.id, type="progress", data={"stage": "index", "done": 3}))
        return run.id


def points(page: str) -> list[int]:
    return [len(d.split("L")) for d in re.findall(r'<path class="line own" d="M([^"]*)"', page)]


def test_a_running_training_is_drawn_and_drawn_again(client: TestClient, engine: Engine) -> None:
    run = add_run(engine, 30, "running")
    answer = client.get(f"/api/v1/runs/{run}/training", headers=BROWSER)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    assert points(answer.text) == [30, 30, 30, 30]
    assert 'http-equiv="refresh"' in answer.text and "&lt;x&gt;" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "style-src 'sha256-" in policy and "unsafe" not in policy


def test_a_long_training_is_thinned_and_keeps_its_end(client: TestClient, engine: Engine) -> None:
    run = add_run(engine, 1001, "failed")
    page = client.get(f"/api/v1/runs/{run}/training", headers=BROWSER).text
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
    page = client.get(f"/api/v1/runs/{parent}/training", headers=BROWSER).text
    assert points(page) == [5, 5, 5, 5] and "1 of 2 silent" in page


def test_before_the_first_reading_there_are_empty_axes(client: TestClient, engine: Engine) -> None:
    run = add_run(engine, 0, "queued")
    answer = client.get(f"/api/v1/runs/{run}/training", headers=BROWSER)
    assert answer.status_code == 200 and points(answer.text) == []


def test_an_unknown_run_is_not_found(client: TestClient) -> None:
    assert client.get(f"/api/v1/runs/{uuid.uuid4()}/training").status_code == 404
    assert client.get("/api/v1/runs/x/training").status_code == 422


# ------------------------------------------------------------------ as data
OWNER = "a worker"


def reading(step: int, fvu: float = 0.5) -> TrainingReading:
    baseline = TrainingFigures(fvu=0.9, dead_share=0.0, terms={"auxk": 0.25})
    return TrainingReading(
        step=step,
        tokens=step * 10,
        fvu=fvu,
        dead_share=0.125,
        terms={"auxk": 0.5},
        frozen_decoder_baseline=baseline,
    )


def write(engine: Engine, run: uuid.UUID, unwritten: Unwritten, owner: str = OWNER) -> bool:
    with transaction(engine) as session:
        return write_readings(session, run, owner, unwritten)


def read(client: TestClient, run: uuid.UUID, **asked: int) -> Any:
    answer = client.get(f"/api/v1/runs/{run}/training", params=asked)
    assert answer.status_code == 200 and answer.headers["vary"].startswith("Accept")
    return answer.json()


def sweep(engine: Engine, steps: int) -> uuid.UUID:
    spec = {"seeds": [0, 1], "training": {"tokens": 950, "batch_tokens": 100}}
    run = add_run(engine, 0, "running", kind="sweep", spec=spec, lease_owner=OWNER)
    readings = {(place, n): reading(n, n + place) for place in (0, 1) for n in range(1, steps + 1)}
    assert write(engine, run, Unwritten({0: 0, 1: 0}, readings))
    return run


def test_every_member_of_a_sweep_with_every_term(client: TestClient, engine: Engine) -> None:
    run = sweep(engine, 5)
    answer = read(client, run)
    assert (answer["run_id"], answer["state"]) == (str(run), "running")
    assert answer["total_tokens"] == 1000, "whole batches"
    first, second = answer["saes"]
    assert (first["place"], second["place"]) == (0, 1)
    assert second["spec"]["training"]["seed"] == 1 and second["sae_id"] is None
    assert [each["step"] for each in second["readings"]] == [1, 2, 3, 4, 5]
    newest = second["readings"][-1]
    assert newest["fvu"] == 6.0 and newest["terms"] == {"auxk": 0.5}
    assert newest["frozen_decoder_baseline"]["terms"] == {"auxk": 0.25}
    (alone,) = read(client, run, place=1)["saes"]
    assert alone == second
    (later,) = read(client, run, place=1, after=3)["saes"]
    assert [each["step"] for each in later["readings"]] == [4, 5] and later["recorded"] == 2
    page = client.get(f"/api/v1/runs/{run}/training?place=1", headers=BROWSER).text
    assert "<dt>terms.auxk</dt>" in page and points(page)[0] == 5
    refused = client.get(f"/api/v1/runs/{run}/training?place=2")
    assert refused.status_code == 422 and "2 SAEs" in refused.text
    assert client.get(f"/api/v1/runs/{run}/training?points=0").status_code == 422


def test_readings_are_thinned_and_keep_the_newest(client: TestClient, engine: Engine) -> None:
    answer = read(client, sweep(engine, 101), points=10)
    for sae in answer["saes"]:
        steps = [each["step"] for each in sae["readings"]]
        assert sae["recorded"] == 101 and 5 < len(steps) <= 10
        assert steps[-1] == 101 and steps == sorted(steps)


def test_a_resumed_training_replaces_what_was_lost(client: TestClient, engine: Engine) -> None:
    run = sweep(engine, 5)
    kept = {(0, 2): reading(2, 7.0), (0, 3): reading(3, 8.0)}
    assert write(engine, run, Unwritten({0: 2}, kept))
    first, second = read(client, run)["saes"]
    assert [(each["step"], each["fvu"]) for each in first["readings"]] == [
        (1, 1.0),
        (2, 7.0),
        (3, 8.0),
    ]
    assert len(second["readings"]) == 5
    assert not write(engine, run, Unwritten({0: 0}, {}), owner="somebody else")
    assert len(read(client, run)["saes"][0]["readings"]) == 3


def test_the_history_stays_after_the_end(client: TestClient, engine: Engine) -> None:
    run = sweep(engine, 5)
    ids = [str(uuid.uuid4()), str(uuid.uuid4())]
    metrics = {"fvu": 0.2, "baseline": {"fvu": 0.9}}
    result = {"saes": [{"sae_id": i, "name": f"n{i}", "metrics": metrics} for i in ids]}
    with transaction(engine) as session:
        row = session.get(Run, run)
        assert row is not None
        row.state, row.result, row.lease_owner = "succeeded", result, None
        row.finished_at = row.created_at.replace(year=2000)
    assert old_events(engine, 60.0, remove=True) > 0
    saes = read(client, run)["saes"]
    assert [sae["sae_id"] for sae in saes] == ids and saes[0]["name"] == f"n{ids[0]}"
    assert saes[1]["recorded"] == 5
    assert saes[0]["metrics"] == {"fvu": 0.2, "frozen_decoder_baseline": {"fvu": 0.9}}
    assert (
        client.get(f"/api/v1/runs/{run}").json()["result"]["saes"][0]["metrics"]
        == (saes[0]["metrics"])
    )
    assert client.delete(f"/api/v1/runs/{run}").status_code == 204
    assert client.get(f"/api/v1/runs/{run}/training").status_code == 404


def test_readings_of_an_earlier_version_are_read_in_todays_words(
    client: TestClient, engine: Engine
) -> None:
    run = add_run(engine, 3, "succeeded")
    (sae,) = read(client, run)["saes"]
    assert sae["recorded"] == 3
    assert sae["readings"][-1] == {
        **{"step": None, "tokens": 30, "seconds": None, "learning_rate": None},
        **{"fvu": pytest.approx(1 / 3), "l0": 4.0, "loss": pytest.approx(1 / 3)},
        **{"dead_share": 0.1, "terms": {}, "frozen_decoder_baseline": None},
    }


def test_what_trains_nothing_has_no_readings(client: TestClient, engine: Engine) -> None:
    spec = {"sae": str(uuid.uuid4())}
    result = {"sae_id": spec["sae"], "metrics": {"fvu": 0.1}}
    run = add_run(engine, 0, "succeeded", kind="evaluate", spec=spec, result=result)
    assert read(client, run)["saes"] == []


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (BROWSER["Accept"], True),
        ("text/html", True),
        ("*/*", False),
        ("", False),
        ("application/json", False),
        ("text/html;q=0.5, application/json", False),
        ("TEXT/HTML;level=1; q=0.9, application/json;q=0.1", True),
        ("text/html;q=x", False),
        (";,;q=", False),
    ],
)
def test_what_a_caller_prefers(accept: str, html: bool) -> None:
    assert prefers_html(accept) is html
