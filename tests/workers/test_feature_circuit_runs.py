"""Feature circuit runs on the worker: pairs of prompts, SAEs of two sites, a graph that is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from monosemy.graphs.store import graph_of_bytes
from monosemy.specs import parse_spec
from service.app import create_app
from service.database.graph_tables import StoredGraph
from service.database.session import transaction
from tests.support import run_acts as acts
from tests.support.loopback import loopback_client
from tests.support.trained_library import HEADS_SITE, SITE, Trained
from workers.gpu import GpuRuns
from workers.worker import Worker

pytestmark = pytest.mark.integration

WORDS = ("king", "river", "house", "road", "tower", "table")
FEW = {"nodes": 8, "exact": 4, "midpoints": 3, "random_circuits": 1}


def pairs(patch: str = "ran") -> dict[str, Any]:
    items = [
        {"clean": f"the {a} sat", "patch": f"the {a} {patch}", "answer": " a", "wrong": " w"}
        for a in WORDS
    ]
    return {"task": "given", "items": items}


@pytest.fixture(scope="module", autouse=True)
def heads(trained: Trained) -> None:
    trained.add_heads()


def execute(trained: Trained, **changes: Any) -> Any:
    spec = {"kind": "feature_circuit", "saes": ["heads", trained.sae.name], "pairs": pairs()}
    run = acts.submit(
        trained.engine, parse_spec({**spec, **FEW, **changes}).model_dump(mode="json")
    )
    gpu = GpuRuns(trained.settings, trained.engine)
    assert Worker("gpu", trained.settings, gpu, trained.engine)._take_one()
    return acts.load(trained.engine, run)


@pytest.fixture(scope="module")
def made(trained: Trained, heads: None) -> Any:
    del heads
    run = execute(trained, name="sat")
    assert run.state == "succeeded", run.error
    return run


@pytest.fixture(scope="module")
def api(trained: Trained) -> Iterator[httpx.Client]:
    with loopback_client(create_app(trained.settings)) as client:
        yield client


def test_its_graph_is_kept_beside_those_of_prompts(
    trained: Trained, made: Any, api: httpx.Client
) -> None:
    with transaction(trained.engine) as session:
        row = session.get_one(StoredGraph, made.id)
        assert (row.name, row.kind, row.checked) == ("sat", "feature_circuit", True)
        stored = graph_of_bytes(row.graph, "stored")
    assert stored.sites == (SITE, HEADS_SITE)
    assert stored.about["host"]["fingerprint"] and len(stored.about["saes"]) == 2
    assert made.result["graph_id"] == str(made.id)
    shown = api.get(f"/api/v1/graphs/{made.id}").json()
    assert shown["feature_circuit"] == made.result["feature_circuit"]
    assert shown["sites"] == [SITE, HEADS_SITE] and shown["served"] == [True, True]
    assert shown["spec"] is None and shown["feature_circuit_spec"]["nodes"] == FEW["nodes"]
    assert [each["site"] for each in shown["feature_circuit"]["sites"]] == shown["sites"]
    assert shown["feature_circuit"]["pairs"] + shown["feature_circuit"]["held_out"] == len(WORDS)
    total = abs(shown["goals"][0]["value"])
    for each in shown["feature_circuit"]["sites"]:
        assert abs(each["residual"]) < 0.2 * total, "three midpoints"
    drawn = api.get(f"/api/v1/graphs/{made.id}/drawing").json()
    assert drawn["sites"] == shown["sites"] and drawn["tokens"] == ["all tokens"]
    assert drawn["kind"].count("feature") <= FEW["nodes"]
    coders = dict(zip(drawn["kind"], drawn["coder"], strict=True))
    assert coders["feature"] in (0, 1) and coders["error"] == -1
    nodes = api.get(f"/api/v1/graphs/{made.id}/nodes", params={"kind": "feature"}).json()
    at = {each["layer"]: each["coder"] for each in nodes["items"]}
    assert at in ({0: 1, 1: 0}, {0: 1}, {1: 0}), "coders in the order of the spec"
    assert api.get(f"/api/v1/graphs/{made.id}/file").json()["nodes"]
    edits = {"edits": [{"node": 0, "mode": "ablate"}]}
    refused = api.post(f"/api/v1/graphs/{made.id}/steer", json=edits)
    assert refused.status_code == 409 and "feature circuit" in refused.json()["detail"]


def test_it_is_listed_by_its_kind(made: Any, api: httpx.Client) -> None:
    listed = api.get("/api/v1/graphs", params={"kind": "feature_circuit"}).json()["items"]
    assert [each["id"] for each in listed] == [str(made.id)]
    assert api.get("/api/v1/graphs", params={"kind": "graph"}).json()["items"] == []
    assert api.get("/api/v1/graphs", params={"kind": "circuit"}).status_code == 422


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pairs": pairs("ran away quickly")}, "its patch"),
        ({"name": "sat"}, "There is a graph named 'sat' already"),
        ({"saes": ["heads", "gone"]}, "gone"),
    ],
)
def test_what_cannot_be_done_ends_the_run_with_its_reason(
    trained: Trained, made: Any, changes: dict[str, Any], reason: str
) -> None:
    del made
    run = execute(trained, **changes)
    assert run.state == "failed" and reason in run.error, run.error
