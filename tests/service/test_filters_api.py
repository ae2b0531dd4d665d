"""Filters that nothing can meet: told with what there is, where an empty list would leave it open
whether there is nothing or the filter is wrong."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from service.database.session import transaction
from service.database.tables import Model
from tests.support.library_rows import Library

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("library")]

API = "/api/v1"
SCORERS = "there is no scorer 'odd': "


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ("saes?model=nobody", 404, "There is no host model 'nobody'. GET /api/v1/models lists"),
        ("sets?model=nobody", 404, "There is no host model 'nobody'."),
        ("circuits?model=nobody", 404, "There is no host model 'nobody'."),
        ("search?q=x&model=nobody", 404, "There is no host model 'nobody'."),
        ("circuits?task=odd", 422, "'indirect-objects', 'greater-than', 'docstrings' or 'given'"),
        ("saes?site=odd", 422, "site: 'odd' is not the name of a site. Write blocks.LAYER.KIND"),
        (
            "saes?site=blocks.99.hook_resid_post",
            422,
            "site: tiny-demo has no site 'blocks.99.hook_resid_post'. It has blocks 1:"
            " hook_resid_post.",
        ),
        ("saes?site=blocks.1.attn.hook_z&model=tiny-demo", 422, "It has blocks 1: hook_resid_"),
        ("saes/demo/features?scorer=odd", 422, SCORERS),
        ("saes/demo/columns?scorer=odd", 422, SCORERS),
        ("saes/demo/features/3/around?scorer=odd", 422, SCORERS),
        ("saes/demo/features/3/scores?scorer=odd", 422, SCORERS),
        ("saes/demo/features.parquet?scorer=odd", 422, SCORERS),
        ("saes/demo/features?index=3&index=60", 422, "'demo' has features 0 to 59, not 60"),
        ("lists?sae=demo&feature=60", 422, "feature: 'demo' has features 0 to 59, not 60"),
        ("saes/demo/features?family=cats", 422, "'first token', 'previous token'"),
        ("saes/demo/features/3/examples?group=q99", 422, "has no group 'q99'; it has top"),
    ],
)
def test_what_no_filter_can_be_is_told_with_what_there_is(
    client: TestClient, asked: str, status: int, said: str
) -> None:
    answer = client.get(f"{API}/{asked}")
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]


@pytest.mark.parametrize(
    "asked",
    [
        "saes?model=tiny-demo",
        "saes?site=blocks.1.hook_resid_post",
        "sets?model=tiny-demo",
        "circuits?model=tiny-demo&task=given",
        "circuits?model=tiny",
        "saes/demo/features?scorer=fuzzing",
        "lists?sae=demo&feature=59",
        "saes/demo/features?q=nowhere",
    ],
)
def test_one_that_may_be_met_is_answered_with_what_meets_it(client: TestClient, asked: str) -> None:
    answer = client.get(f"{API}/{asked}")
    assert answer.status_code == 200, answer.text


def test_a_site_of_which_nothing_is_known_is_only_a_filter(
    client: TestClient, module_engine: Engine, library: Library
) -> None:
    with transaction(module_engine) as session:
        model = session.get_one(Model, library.model)
        before, model.info = model.info, {**model.info, "sites": None}
    try:
        answer = client.get(f"{API}/saes?site=blocks.99.hook_resid_post")
        assert answer.status_code == 200 and answer.json()["items"] == []
    finally:
        with transaction(module_engine) as session:
            session.get_one(Model, library.model).info = before


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"kind": "train", "site": "blocks.99.hook_resid_post"}, "site"),
        ({"kind": "pipeline", "site": "blocks.99.hook_resid_post"}, "site"),
        ({"kind": "train", "writes": "blocks.99.hook_mlp_out", "sae": {"skip": True}}, "writes.0"),
        ({"kind": "sweep", "sites": ["blocks.*.hook_resid_post"], "layers": "0-2"}, "sites.0"),
        ({"kind": "basis", "site": "blocks.99.mlp.hook_post"}, "site"),
        ({"kind": "task", "sites": ["blocks.99.hook_resid_post"]}, "sites.0"),
        ({"kind": "import", "source": "a/b/c", "site": "blocks.99.hook_resid_post"}, "site"),
    ],
    ids=lambda value: str(value["kind"]) if isinstance(value, dict) else value,
)
def test_a_site_that_the_host_model_lacks_is_told_before_the_run(
    client: TestClient, spec: dict[str, object], path: str
) -> None:
    asked = {**spec, "model": {"name": "tiny"}}
    answer = client.post(f"{API}/runs", json=asked)
    faults = {each["path"]: each["message"] for each in answer.json().get("errors", [])}
    assert answer.status_code == 422 and "It has blocks 1: hook_resid_post." in faults[path]
    reading = client.post(f"{API}/runs/parse", json={"spec": asked}).json()
    assert path in {each["path"] for each in reading["errors"]}
    unknown = client.post(f"{API}/runs", json={**asked, "model": {"name": "org/never-seen"}})
    assert "It has blocks" not in unknown.text
