"""A kind of run that no file of the house names, from its submission to its files' collection."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from monosemy.specs import KINDS
from monosemy.specs.run import GPU, INTERP, NO_QUEUE, RunSpec
from monosemy.workspace import Workspace
from service.app import create_app
from service.database.session import transaction
from service.database.tables import Run
from service.retention.collector import collect
from service.retention.rules import Rules
from service.settings import Settings
from service.uploads.store import _wanted
from tests.support import run_acts as acts
from tests.support.library_rows import add_library
from tests.support.outside_kind import registered
from workers.dispatch import Dispatch
from workers.gpu import GpuRuns
from workers.interp import InterpRuns
from workers.worker import Worker

pytestmark = pytest.mark.integration

RUNS = "/api/v1/runs"
RULES = Rules(grace=-1.0, checkpoints=0.0, activations=None, events=None)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, database_url=database_url, redis_url=None, log_level="WARNING")


@pytest.fixture
def client(settings: Settings, clean_engine: Engine) -> Iterator[TestClient]:
    with transaction(clean_engine) as session:
        add_library(session, "large", features=3)
    with registered():
        app = create_app(settings)
        loopback = "http://127.0.0.1:8420"
        with TestClient(app, base_url=loopback, client=("127.0.0.1", 50000)) as client:
            yield client


def work(settings: Settings, engine: Engine) -> None:
    execute = Dispatch(settings, Workspace(settings.artifacts), {"train": _trained})
    worker = Worker("gpu", settings, execute, engine)
    while worker._take_one():
        pass


def _trained(run: Run, spec: Any, reporter: Any) -> dict[str, Any]:
    del spec, reporter
    return {"sae_id": str(run.id)}


def test_it_is_submitted_checked_routed_executed_and_listed(
    client: TestClient, settings: Settings, clean_engine: Engine
) -> None:
    kind = client.app.openapi()["components"]["schemas"]["RunSummary"]["properties"]["kind"]  # type: ignore[attr-defined]
    assert {"distil", "curriculum", "train"} <= set(kind["enum"])
    for wrong, path in (
        ({"teacher": "nobody"}, "teacher"),
        ({"teacher": "pending"}, "teacher"),
        ({"teacher": "large", "critic": {"url": "https://x.example/v1"}}, "critic.url"),
        ({"teacher": "large", "corpora": [{"source": "http://x.example"}]}, "corpora.0.source"),
        ({"teacher": "large", "length": 10**15}, "length"),
        ({"teacher": "large", "lenght": 5}, "lenght"),
    ):
        answer = client.post(RUNS, json={"kind": "distil", **wrong})
        assert answer.status_code == 422, answer.text
        assert [error["path"] for error in answer.json()["errors"]] == [path]
    answer = client.post(RUNS, json={"kind": "distil", "teacher": "large", "length": 70})
    assert answer.status_code == 201 and answer.json()["queue"] == "gpu"
    # An SAE that a waiting run names stays, whatever the field is called.
    assert client.delete("/api/v1/saes/large").status_code == 409
    work(settings, clean_engine)
    done = client.get(f"{RUNS}/{answer.json()['id']}").json()
    assert (done["state"], done["result"]["length"]) == ("succeeded", 70)
    assert done["stages"][0]["stage"] == "distil"
    assert [run["id"] for run in client.get(RUNS, params={"kind": "distil"}).json()["items"]] == [
        done["id"]
    ]
    assert client.get(RUNS, params={"kind": "distill"}).status_code == 422


def test_its_steps_wait_as_they_are_declared(client: TestClient, clean_engine: Engine) -> None:
    parent = uuid.UUID(client.post(RUNS, json={"kind": "curriculum"}).json()["id"])
    train, distil, evaluate = acts.children(clean_engine, parent)
    assert (distil.depends_on, evaluate.depends_on) == (train.id, train.id)
    assert acts.claim(clean_engine) == train.id
    assert acts.succeed(clean_engine, train.id, sae_id="made") == {"gpu"}
    _, distil, evaluate = acts.children(clean_engine, parent)
    assert (distil.spec["teacher"], evaluate.spec["sae"]) == ("made", "made")
    # One of two that do not wait for each other fails: the other goes on.
    assert acts.claim(clean_engine) == distil.id
    acts.fail(clean_engine, distil.id)
    assert acts.claim(clean_engine) == evaluate.id
    acts.succeed(clean_engine, evaluate.id)
    assert acts.load(clean_engine, parent).state == "failed"


def test_steps_that_wait_for_a_failed_one_are_not_started(
    client: TestClient, clean_engine: Engine
) -> None:
    parent = uuid.UUID(client.post(RUNS, json={"kind": "curriculum"}).json()["id"])
    train = acts.children(clean_engine, parent)[0]
    acts.claim(clean_engine)
    acts.fail(clean_engine, train.id)
    assert [each.state for each in acts.children(clean_engine, parent)[1:]] == ["cancelled"] * 2


def test_its_files_stay_while_it_may_need_them(
    client: TestClient, settings: Settings, clean_engine: Engine
) -> None:
    run = client.post(RUNS, json={"kind": "distil", "teacher": "large"}).json()["id"]
    own = settings.artifacts / "saes" / str(uuid.uuid5(uuid.UUID(run), "distilled"))
    stranger = settings.artifacts / "saes" / str(uuid.uuid4())
    for folder in (own, stranger):
        folder.mkdir(parents=True)
    garbage = collect(clean_engine, settings.artifacts, RULES).garbage
    assert [each.found.name for each in garbage] == [stranger.name]


def test_an_upload_that_it_names_is_kept(
    client: TestClient, settings: Settings, clean_engine: Engine
) -> None:
    upload = uuid.uuid4()
    (settings.artifacts / "uploads" / str(upload)).mkdir(parents=True)
    body = {"kind": "distil", "teacher": "large", "weights": f"upload:{upload}"}
    assert client.post(RUNS, json={**body, "remark": "upload: of mine"}).status_code == 201
    with transaction(clean_engine) as session:
        assert _wanted(session) == {str(upload)}


def test_where_its_plugin_is_gone_the_run_is_shown_and_fails_with_a_reason(
    settings: Settings, clean_engine: Engine
) -> None:
    with registered():
        with transaction(clean_engine) as session:
            add_library(session, "large", features=3)
        run = acts.submit(clean_engine, {"kind": "distil", "teacher": "large"})
    app = create_app(settings)
    with TestClient(app, base_url="http://127.0.0.1:8420", client=("127.0.0.1", 5)) as client:
        assert client.get(f"{RUNS}/{run}").json()["kind"] == "distil"
        # Nobody knows which of its texts names an SAE: any may.
        assert client.delete("/api/v1/saes/large").status_code == 409
        work(settings, clean_engine)
        done = client.get(f"{RUNS}/{run}").json()
    assert done["state"] == "failed" and "'distil' is not a kind of run" in done["error"]


def test_every_kind_of_the_house_is_executed_by_the_workers_of_its_queue(
    settings: Settings, clean_engine: Engine
) -> None:
    workers = {GPU: GpuRuns(settings, clean_engine), INTERP: InterpRuns(settings, clean_engine)}
    for name, kind in KINDS.items():
        queues = {kind.queue} | ({GPU} if kind.needs_host is not RunSpec.needs_host else set())
        for queue in queues - {NO_QUEUE}:
            assert name in workers[queue].executors, (name, queue)
    assert {name for each in workers.values() for name in each.executors} <= set(KINDS)
