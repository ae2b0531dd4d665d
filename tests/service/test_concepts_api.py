"""Concepts over REST: listed, shown, deleted, and named in a request to steer."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from service.concepts.repository import delete_concept, keep_concept
from service.database.session import transaction
from service.database.tables import Sae
from service.kit.errors import Conflict
from tests.support.concept_rows import CONCEPT, NAME, add_concept, concept_result
from tests.support.library_rows import Library, add_library

pytestmark = pytest.mark.integration

CONCEPTS = "/api/v1/concepts"
STEER = "/api/v1/inference/steer"
HELD = {"name": NAME, "flagged": True, "score": 0.75, "threshold": 0.25}
EVENTS = [
    {"event": "prompt", "text": "x", "tokens": 1, "pushed": 1, "concepts": [HELD]},
    {"event": "end", "steered": "length"},
]


@pytest.fixture(autouse=True)
def kept(module_engine: Engine, library: Library) -> Iterator[None]:
    with transaction(module_engine) as session:
        add_concept(session, library)
    yield
    with transaction(module_engine) as session:
        delete_concept(session, CONCEPT)


def test_it_is_listed_in_short_and_shown_by_name_and_id(
    client: TestClient, library: Library
) -> None:
    (row,) = client.get(CONCEPTS, params={"sae": "demo"}).json()["items"]
    assert row["id"] == str(CONCEPT) and row["sae"] == "demo" and row["features"] == 2
    assert row["area"]["value"] == 0.9375 and row["threshold"] == 0.25
    expected = concept_result().model_dump(mode="json")
    for reference in (NAME, CONCEPT):
        whole = client.get(f"{CONCEPTS}/{reference}").json()
        assert {name: whole[name] for name in expected} == expected
        assert whole["name"] == NAME and whole["sae"] == "demo"


def test_what_is_not_there_is_not_found(client: TestClient) -> None:
    assert client.get(CONCEPTS, params={"sae": "nothing"}).status_code == 404
    missing = client.get(f"{CONCEPTS}/nothing")
    assert missing.status_code == 404 and "GET /api/v1/concepts" in missing.json()["detail"]
    assert client.delete(f"{CONCEPTS}/{uuid.uuid4()}").status_code == 404


def test_a_name_stands_for_one_concept_and_a_run_made_again_replaces_its_own(
    client: TestClient, module_engine: Engine, library: Library
) -> None:
    with (
        pytest.raises(Conflict, match="already"),
        transaction(module_engine) as session,
    ):
        keep_concept(session, uuid.uuid4(), library.sae, concept_result())
    with transaction(module_engine) as session:
        add_concept(session, library)
    assert len(client.get(CONCEPTS).json()["items"]) == 1
    assert client.delete(f"{CONCEPTS}/{NAME}").status_code == 204
    assert client.get(f"{CONCEPTS}/{NAME}").status_code == 404


def test_a_request_to_steer_sends_what_the_prompt_is_held_against(
    client: TestClient, inference: Any
) -> None:
    inference.requests.clear()
    inference.events = EVENTS
    asked = {"sae": "demo", "prompt": "x", "concepts": [NAME], "compare": False}
    answer = client.post(STEER, json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.json()["concepts"] == [HELD] and answer.json()["features"] == []
    _, sent = inference.requests[0]
    assert sent["pushes"] == []
    assert sent["concepts"] == [concept_result().concept.model_dump()]


def test_what_a_request_may_not_name_is_told_at_its_place(
    client: TestClient, module_engine: Engine, inference: Any, library: Library
) -> None:
    inference.events = EVENTS

    def refused(**body: Any) -> dict[str, Any]:
        answer = client.post(STEER, json={"prompt": "x", "sae": "demo", **body})
        assert answer.status_code == 422, answer.text
        return dict(answer.json())

    assert "name a feature or a concept" in str(refused())
    assert "concepts.1" in str(refused(concepts=[NAME, "nothing"]))
    assert "named twice" in str(refused(concepts=[NAME, str(CONCEPT)]))
    with transaction(module_engine) as session:
        add_library(session, "other", features=2)
    assert "another SAE" in str(refused(sae="other", concepts=[NAME]))
    assert client.get(CONCEPTS, params={"sae": "other"}).json()["items"] == []


def test_a_concept_of_other_weights_is_refused(
    client: TestClient, module_engine: Engine, inference: Any, library: Library
) -> None:
    inference.events = EVENTS
    with transaction(module_engine) as session:
        sae = session.get_one(Sae, library.sae)
        before = dict(sae.provenance)
        sae.provenance = {**before, "weights": {"digest": "another"}}
    try:
        answer = client.post(STEER, json={"prompt": "x", "sae": "demo", "concepts": [NAME]})
        assert answer.status_code == 409 and "other weights" in answer.json()["detail"]
    finally:
        with transaction(module_engine) as session:
            session.get_one(Sae, library.sae).provenance = before
