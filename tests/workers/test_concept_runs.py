"""Concept runs: through the worker into the database, refused, kept once; and in use."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from monosemy.sae_folder import SaeFolder
from monosemy.specs import parse_spec
from monosemy.specs.rest.concepts import ConceptResult
from monosemy.workspace import Workspace
from service.app import create_app
from service.database.concept_tables import Concept
from service.database.session import transaction
from tests.support import run_acts as acts
from tests.support.concept_texts import RETAIN, TARGETS
from tests.support.loopback import loopback_client
from tests.support.trained_library import SITE, Trained
from workers.gpu import GpuRuns
from workers.inference import create_app as create_inference
from workers.worker import Worker

pytestmark = pytest.mark.integration

SPEC: dict[str, Any] = {
    "kind": "concept",
    "name": "whales",
    "sae": "tiny",
    "targets": TARGETS,
    "retain": RETAIN,
    "paraphrases": ["Leviathans of the sea", "A pod swims past"],
    "called": "whales",
    "top_k": 6,
    "scale": -8.0,
    "false_alarms": 0.2,
}


def execute(trained: Trained, **options: Any) -> Any:
    run = acts.submit(trained.engine, parse_spec({**SPEC, **options}).model_dump(mode="json"))
    gpu = GpuRuns(trained.settings, trained.engine)
    assert Worker("gpu", trained.settings, gpu, trained.engine)._take_one()
    return acts.load(trained.engine, run)


def result_of(trained: Trained, name: str) -> ConceptResult:
    with transaction(trained.engine) as session:
        row = session.scalars(select(Concept).where(Concept.name == name)).one()
        assert row.sae_id == trained.sae.id
        return ConceptResult.model_validate(row.result)


@pytest.fixture(scope="module")
def whales(trained: Trained) -> ConceptResult:
    run = execute(trained)
    assert run.state == "succeeded", run.error
    assert [each["stage"] for each in run.stages] == ["texts", "tests", "embeddings"]
    for each in run.stages:
        assert each["done"] == each["total"] > 0
    assert run.result["concept_id"] == str(run.id)
    return result_of(trained, "whales")


def test_a_run_finds_a_concept_and_tests_it(trained: Trained, whales: ConceptResult) -> None:
    kinds = [each.kind for each in whales.detectors]
    assert kinds == [
        *("concept", "rule", "score", "scale", "no_retain", "random", "probe"),
        "papers_threshold",
    ]
    kinds = [each.kind for each in whales.erasers]
    assert kinds[0] == "nothing" and kinds[-1] == "leace" and len(kinds) == 8
    assert whales.site == SITE and whales.texts.paraphrases == 2
    assert whales.erasers[0].change_targets == 0.0
    assert all(each.change_targets > 0 for each in whales.erasers[1:])
    assert whales.embeddings is not None and whales.embeddings.embedding == "mean_stream"
    assert whales.embeddings.called == "whales" and whales.embeddings.flagged_targets > 0
    for each in whales.embeddings.changes:
        assert each.equal.value == (0.0 if each.kind == "leace" else 1.0)
    own = whales.detectors[0]
    assert own.features == len(whales.concept.features) >= len(whales.features) > 0
    assert own.threshold == whales.concept.threshold == whales.threshold.value
    assert own.area.value is not None and own.area.value > 0.6
    folder = SaeFolder(Workspace(trained.settings.artifacts).locate(trained.sae.path), None)  # type: ignore[arg-type]
    assert whales.weights == folder.digest
    with loopback_client(create_app(trained.settings)) as client:
        shown = client.get("/api/v1/concepts/whales").json()
        assert shown["threshold"] == whales.threshold.model_dump()
        assert shown["sae"] == "tiny"


def test_features_may_be_chosen_by_share_and_the_other_rule_stands_beside(
    trained: Trained, whales: ConceptResult
) -> None:
    assert execute(trained, name="by share", rule="share").state == "succeeded"
    by_share = result_of(trained, "by share")
    assert (whales.rule, by_share.rule) == ("difference", "share")
    for one, other in ((whales, by_share), (by_share, whales)):
        beside = next(each for each in one.detectors if each.kind == "rule")
        assert beside.name == f"rule {other.rule}"
        assert beside.features == len(other.concept.features)
        assert beside.area == other.detectors[0].area
    assert all(each.retain == 0 for each in whales.features)
    first = by_share.features[0]
    assert first.retain is not None
    assert first.targets / by_share.texts.fit_targets > first.retain / by_share.texts.fit_retain


def test_equal_seeds_find_the_same(trained: Trained, whales: ConceptResult) -> None:
    assert execute(trained, name="again").state == "succeeded"
    again = result_of(trained, "again")
    volatile = {"concept": {"name"}, "seconds": True}
    assert again.model_dump(exclude=volatile) == whales.model_dump(exclude=volatile)
    run = execute(trained, name="short", called=None, embeddings=False)
    assert [each["stage"] for each in run.stages] == ["texts", "tests"]
    volatile["embeddings"] = True
    short = result_of(trained, "short")
    assert short.embeddings is None
    assert short.model_dump(exclude=volatile) == whales.model_dump(exclude=volatile)


def test_what_cannot_be_used_ends_the_run_with_its_reason(
    trained: Trained, whales: ConceptResult
) -> None:
    for options, reason in (
        ({}, "concept named 'whales' already"),
        ({"name": "b", "retain": [*RETAIN, TARGETS[0].upper()]}, "both targets and to be retained"),
        ({"name": "b", "targets": TARGETS[:1]}, "one target text"),
        ({"name": "b", "retain": RETAIN[:2]}, "too few retain texts"),
        ({"name": "b", "targets": [*TARGETS, "whale " * 400]}, "reads 256 at once"),
        ({"name": "b", "false_alarms": 0.01}, "needs 99 retain texts"),
        ({"name": "b", "top_k": 100_000}, "No feature is left"),
    ):
        run = execute(trained, **options)
        if reason == "No feature is left" and run.state == "succeeded":
            continue  # a feature that never fires in the retain texts
        assert run.state == "failed" and reason in run.error, (options, run.error)


# ---------------------------------------------------------------------- in use
@pytest.fixture(scope="module")
def client(trained: Trained) -> TestClient:
    return loopback_client(create_inference(trained.settings))


def events(client: TestClient, trained: Trained, **changes: Any) -> list[dict[str, Any]]:
    asked = {
        "sae": {"id": str(trained.sae.id), "path": trained.sae.path, "site": SITE},
        "model": trained.spec["model"],
        "prompt": TARGETS[0],
        "pushes": [],
        "writing": {"new_tokens": 10, "temperature": 0.9, "seed": 4, "logprobs": 2},
        **changes,
    }
    answer = client.post("/steer", json=asked)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def row(received: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in each.items() if key != "row"}
        for each in received
        if each["event"] == "token" and each["row"] == name
    ]


def test_a_flagged_prompt_is_written_without_the_features_and_another_bit_for_bit_as_without(
    client: TestClient, trained: Trained, whales: ConceptResult
) -> None:
    concept = whales.concept.model_dump()
    first = events(client, trained, concepts=[{**concept, "threshold": -1.0}])
    score = first[0]["concepts"][0]["score"]
    assert first[0]["concepts"] == [
        {"name": "whales", "flagged": True, "score": score, "threshold": -1.0}
    ]
    assert score > 0 and first[0]["pushed"] > 0
    assert row(first, "steered") != row(first, "plain")

    above = {**concept, "threshold": score * 1.001}
    unflagged = events(client, trained, concepts=[above])
    assert unflagged[0]["concepts"][0]["flagged"] is False and unflagged[0]["pushed"] == 0
    assert row(unflagged, "steered") == row(unflagged, "plain") == row(first, "plain")
    pushes = [{"latent": 5, "strength": 30.0}]
    without = events(client, trained, pushes=pushes)
    beside = events(client, trained, pushes=pushes, concepts=[above])
    assert row(beside, "steered") == row(without, "steered") != row(without, "plain")
    assert without[0]["concepts"] == []

    alone = events(client, trained, concepts=[{**concept, "threshold": -1.0}], compare=False)
    assert [each["id"] for each in row(alone, "steered")] == [
        each["id"] for each in row(first, "steered")
    ]


def test_several_concepts_hold_at_once(
    client: TestClient, trained: Trained, whales: ConceptResult
) -> None:
    own = {**whales.concept.model_dump(), "threshold": -1.0}
    other = {"name": "other", "features": [0], "threshold": 1e9, "scale": 0.0}
    both = events(client, trained, concepts=[own, other])
    assert [each["flagged"] for each in both[0]["concepts"]] == [True, False]
    one = events(client, trained, concepts=[own])
    assert row(both, "steered") == row(one, "steered")
    dropped = events(client, trained, concepts=[{**own, "keep_error": False}])
    assert row(dropped, "steered") != row(one, "steered")
    # A reconstruction in place of the activations, whether or not a feature of the concept fires.
    assert dropped[0]["pushed"] == one[0]["pushed"]


def test_what_contradicts_a_concept_is_refused_whether_flagged_or_not(
    client: TestClient, trained: Trained, whales: ConceptResult
) -> None:
    latent = whales.concept.features[0]
    for threshold in (-1.0, 1e9):
        asked = {
            "sae": {"id": str(trained.sae.id), "path": trained.sae.path, "site": SITE},
            "model": trained.spec["model"],
            "prompt": "x",
            "pushes": [{"latent": latent, "strength": 1.0, "mode": "clamp"}],
            "concepts": [{**whales.concept.model_dump(), "threshold": threshold}],
        }
        answer = client.post("/steer", json=asked)
        assert answer.status_code == 422 and "deactivates it" in answer.json()["detail"]
        asked |= {"pushes": [], "concepts": [{**asked["concepts"][0], "features": [10**6]}]}
        assert "none is number 1000000" in client.post("/steer", json=asked).json()["detail"]
