"""Names that runs give to what they make: refused where they must be the only ones, told where they
get a number."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from service.database.session import transaction
from service.runs.names import name_warnings
from tests.support import run_acts as acts
from tests.support.concept_rows import NAME, add_concept
from tests.support.library_rows import Library

pytestmark = pytest.mark.integration

RUNS = "/api/v1/runs"
CONCEPT: dict[str, Any] = {
    "kind": "concept",
    "sae": "demo",
    "targets": ["a whale"],
    "retain": ["a clock"],
}
MAKERS: list[dict[str, Any]] = [
    {"kind": "basis", "basis": "pca", "beside": "demo"},
    {"kind": "train"},
    {"kind": "import", "source": "release/sae"},
    {"kind": "basis_pipeline", "basis": "pca", "beside": "demo"},
    {"kind": "pipeline"},
]


@pytest.fixture(scope="module", autouse=True)
def kept(module_engine: Engine, library: Library) -> None:
    with transaction(module_engine) as session:
        add_concept(session, library)


def submit(client: TestClient, spec: dict[str, Any], **headers: str) -> Any:
    return client.post(RUNS, json=spec, headers=headers)


@pytest.mark.parametrize("spec", MAKERS, ids=lambda spec: str(spec["kind"]))
def test_an_sae_whose_name_is_taken_is_told_to_get_a_number(
    client: TestClient, spec: dict[str, Any]
) -> None:
    answer = submit(client, {**spec, "name": "demo"})
    assert answer.status_code == 201, answer.text
    run = answer.json()
    told = [words for each in (run, *run["children"]) for words in each["warnings"]]
    assert told == ["There is an SAE named 'demo' already: this one gets a number."]
    fresh = submit(client, {**spec, "name": "nobody's"}).json()
    assert not any(each["warnings"] for each in (fresh, *fresh["children"]))


def test_what_it_is_called_then_is_told_of_each(client: TestClient, module_engine: Engine) -> None:
    def ended(spec: dict[str, Any], **result: Any) -> list[str]:
        run = acts.submit(module_engine, spec, priority=50)
        assert acts.claim(module_engine) == run
        acts.succeed(module_engine, run, **result)
        told: list[str] = client.get(f"{RUNS}/{run}").json()["warnings"]
        return told

    one = {"sae_id": str(uuid.uuid4())}
    assert ended({"kind": "train", "name": "demo"}, **one, name="demo-2") == [
        "There was an SAE named 'demo' already: this one is named 'demo-2'."
    ]
    assert ended({"kind": "train", "name": "demo"}, **one, name="demo") == []
    assert ended({"kind": "train"}, **one, name="whatever") == []
    many = {"kind": "sweep", "name": "tc", "sites": ["blocks.*.mlp.hook_in"], "layers": "0-1"}
    saes = [{**one, "name": name, "set": "tc-2"} for name in ("tc-0", "tc-1-2")]
    assert ended({**many, "writes": "blocks.*.hook_mlp_out"}, saes=saes) == [
        "There was an SAE named 'tc-1' already: this one is named 'tc-1-2'.",
        "There was a set named 'tc' already: this one is named 'tc-2'.",
    ]
    taken = {"kind": "import", "source": "a/b", "name": "tc", "layers": "3-4"}
    saes = [{**one, "name": name, "set": "tc"} for name in ("tc-3-2", "tc-4")]
    assert ended(taken, saes=saes) == [
        "There was an SAE named 'tc-3' already: this one is named 'tc-3-2'."
    ]
    for odd in ({"saes": 3}, {"saes": ["a", None]}, {"name": 7}, {"saes": [{"name": 1}]}, {}):
        assert ended({"kind": "train", "name": "demo"}, **odd) == []


def test_a_concepts_name_is_refused_at_once_where_it_is_taken(client: TestClient) -> None:
    refused = submit(client, {**CONCEPT, "name": NAME})
    problem = refused.json()
    assert refused.status_code == 409 and problem["type"].endswith(":name-taken")
    assert problem["detail"].startswith(f"There is a concept named '{NAME}' already.")
    assert [each["path"] for each in problem["errors"]] == ["name"]
    again = {"kind": "graph", "name": "why", "saes": ["demo"], "prompt": "a"}
    assert submit(client, again).status_code == 201
    assert submit(client, again).status_code == 409, "a graph's too"
    reading = client.post(f"{RUNS}/parse", json={"spec": {**CONCEPT, "name": NAME}}).json()
    assert reading["errors"] == problem["errors"] and reading["queue"] is None


def test_so_is_that_of_one_on_its_way_but_the_same_submission_is_the_same_run(
    client: TestClient, module_engine: Engine
) -> None:
    spec, once = {**CONCEPT, "name": "whales"}, {"Idempotency-Key": "once"}
    first = submit(client, spec, **once)
    assert first.status_code == 201, first.text
    again = submit(client, spec, **once)
    assert again.status_code == 201 and again.json()["id"] == first.json()["id"]
    other = submit(client, spec)
    assert other.status_code == 409 and first.json()["id"] in other.json()["detail"]
    acts.cancel(module_engine, uuid.UUID(first.json()["id"]))
    freed = submit(client, spec)
    assert freed.status_code == 201, freed.text
    acts.cancel(module_engine, uuid.UUID(freed.json()["id"]))


def test_every_door_that_takes_a_name_says_where_it_stands(client: TestClient) -> None:
    lists = "/api/v1/lists"
    assert client.post(lists, json={"name": "mine"}).status_code == 201
    other = client.post(lists, json={"name": "other"}).json()["id"]
    for answer in (
        client.post(lists, json={"name": "mine"}),
        client.patch(f"{lists}/{other}", json={"name": "mine"}),
    ):
        problem = answer.json()
        assert answer.status_code == 409 and problem["type"].endswith(":name-taken")
        assert problem["errors"] == [{"path": "name", "message": problem["detail"]}]


def test_a_spec_that_nobody_reads_any_more_is_not_warned_of(
    client: TestClient, module_engine: Engine
) -> None:
    from monosemy.specs.rest.runs import RunDetail

    run = RunDetail.model_validate(submit(client, {"kind": "train", "name": "demo"}).json())
    with transaction(module_engine) as session:
        assert name_warnings(session, run)
        for spec in ({"name": "demo"}, {**run.spec, "odd": 1}, {}):
            assert name_warnings(session, run.model_copy(update={"spec": spec})) == []
        assert name_warnings(session, run.model_copy(update={"kind": "of a plugin"})) == []
