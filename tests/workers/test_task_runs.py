"""Task runs: through the worker into the database, by the library, refused, kept once."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from monosemy.specs import parse_spec
from monosemy.specs.rest.tasks import TaskResult
from service.app import create_app
from service.database.session import transaction
from service.database.task_tables import Task
from tests.support import run_acts as acts
from tests.support.loopback import loopback_client, typed_client
from tests.support.task_prompts import task_prompts
from tests.support.trained_library import SITE, Trained
from workers.gpu import GpuRuns
from workers.worker import Worker

pytestmark = pytest.mark.integration

SPEC: dict[str, Any] = {
    "kind": "task",
    "saes": ["tiny"],
    "prompts": {"task": "given", "items": task_prompts()},
    "positions": ["name", "end"],
    "features": [1, 4],
    "test_share": 0.3,
    "pairs": 10,
    "resamples": 100,
}


def execute(trained: Trained, **options: Any) -> Any:
    run = acts.submit(trained.engine, parse_spec({**SPEC, **options}).model_dump(mode="json"))
    gpu = GpuRuns(trained.settings, trained.engine)
    assert Worker("gpu", trained.settings, gpu, trained.engine)._take_one()
    return acts.load(trained.engine, run)


def test_a_run_tries_the_sae_and_keeps_what_it_found(trained: Trained) -> None:
    run = execute(trained)
    assert run.state == "succeeded", run.error
    assert [each["stage"] for each in run.stages] == ["activations", "answers", "features"]
    for each in run.stages:
        assert each["done"] == each["total"] > 0
    with transaction(trained.engine) as session:
        row = session.scalars(select(Task)).one()
        assert row.id == run.id and row.sae_ids == [trained.sae.id]
        result = TaskResult.model_validate(row.result)
    kinds = [each.kind for each in result.sections[0].methods]
    assert kinds == ["supervised", "supervised", "sae", "frozen", "pca", "random"]
    assert result.sections[0].sites == [SITE]
    assert {each.sae for each in result.sections[0].methods} == {None, str(trained.sae.id)}
    assert run.result["task_id"] == str(run.id)
    assert run.result["methods"][2]["name"] == "tiny"
    with loopback_client(create_app(trained.settings)) as client:
        shown = client.get(f"/api/v1/tasks/{run.id}").json()
        assert shown["clean"] == result.clean.model_dump()
        assert client.get("/api/v1/tasks", params={"sae": "tiny"}).json()["items"]


def test_what_cannot_be_used_ends_the_run_with_its_reason(trained: Trained) -> None:
    for options, reason in (
        ({"positions": ["verb"]}, "no position 'verb'"),
        ({"attributes": ["colour"]}, "no attribute 'colour'"),
        ({"sites": ["blocks.1.hook_resid_post"]}, "not among the sites"),
        ({"saes": ["tiny", str(trained.sae.id)]}, "names an SAE twice"),
        ({"prompts": {"task": "indirect-objects"}}, "names as single tokens"),
    ):
        run = execute(trained, **options)
        assert run.state == "failed" and reason in run.error, run.error


def test_the_client_reads_it(trained: Trained) -> None:
    run = execute(trained, seed=4)
    with loopback_client(create_app(trained.settings)) as server:
        client = typed_client(server)
        assert run.id in [each.id for each in client.tasks.list(sae="tiny")]
        shown = client.tasks.get(run.id)
        assert shown.saes == ["tiny"] and shown.test > 0
        client.tasks.delete(shown)
        assert run.id not in [each.id for each in client.tasks.list()]
