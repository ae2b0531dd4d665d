"""Circuits over REST: listed, shown whole, deleted by whoever made them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, delete

from monosemy.specs.circuits import CircuitTask, PromptSource
from service.database.circuit_tables import Circuit
from service.database.session import transaction
from tests.support.circuit_rows import BARE, CIRCUIT, add_circuits, made_up
from tests.support.loopback import typed_client

pytestmark = pytest.mark.integration

CIRCUITS = "/api/v1/circuits"


@pytest.fixture(autouse=True)
def circuits(module_engine: Engine) -> Iterator[None]:
    with transaction(module_engine) as session:
        add_circuits(session)
    yield
    with transaction(module_engine) as session:
        session.execute(delete(Circuit))


def test_they_are_listed(client: TestClient) -> None:
    page = client.get(CIRCUITS).json()
    assert {each["id"] for each in page["items"]} == {str(CIRCUIT), str(BARE)}
    (whole,) = [each for each in page["items"] if each["id"] == str(CIRCUIT)]
    assert "heads" not in whole and whole["name"] == "who is given"
    assert whole["found"] == made_up().found > 0
    assert client.get(CIRCUITS, params={"task": "given"}).json()["items"] == []
    assert len(client.get(CIRCUITS, params={"task": "indirect-objects"}).json()["items"]) == 2
    first = client.get(CIRCUITS, params={"limit": 1}).json()
    second = client.get(CIRCUITS, params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert {first["items"][0]["id"], second["items"][0]["id"]} == {str(CIRCUIT), str(BARE)}
    assert client.get(CIRCUITS, params={"cursor": "nonsense"}).status_code == 422


def test_one_is_shown_whole(client: TestClient) -> None:
    shown = client.get(f"{CIRCUITS}/{CIRCUIT}").json()
    made = made_up().model_dump(mode="json")
    assert {name: shown[name] for name in made} == made
    assert set(shown) - set(made) == {"id", "name", "created_at"}
    bare = client.get(f"{CIRCUITS}/{BARE}").json()
    assert bare["edges"] is bare["known"] is bare["causal"] is None


def test_the_client_gives_them(client: TestClient) -> None:
    with typed_client(client) as monosemy:
        headers = list(monosemy.circuits.list(model="host"))
        assert {each.id for each in headers} == {CIRCUIT, BARE}
        shown = monosemy.circuits.get(CIRCUIT)
        assert shown.heads == made_up().heads and shown.edge_list == made_up().edge_list
        monosemy.circuits.delete(shown)
        assert [each.id for each in monosemy.circuits.list()] == [BARE]


def test_it_is_deleted_once(client: TestClient) -> None:
    assert client.delete(f"{CIRCUITS}/{CIRCUIT}").status_code == 204
    for answer in (client.get(f"{CIRCUITS}/{CIRCUIT}"), client.delete(f"{CIRCUITS}/{CIRCUIT}")):
        assert answer.status_code == 404 and "/api/v1/circuits lists" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompts": {"task": "given", "items": []}}, "prompts.given.items"),
        ({"prompts": {"task": "nothing"}}, "prompts"),
        ({"prompts": {"task": "greater-than", "templates": ["went"]}}, "prompts"),
        ({"known_heads": [[0]]}, "known_heads"),
        ({"known": "gpt2-ioi", "known_heads": [[0, 1]]}, ""),
        ({"codes": {"latents": True}}, "codes.latents"),
        ({"permutations": 3}, "permutations"),
        ({"causal": {"sizes": [0]}}, "causal.sizes"),
        ({"model": {"name": "http://127.0.0.1/model"}}, "model.name"),
    ],
)
def test_bad_specs_are_refused_at_their_field(
    client: TestClient, changes: dict[str, Any], field: str
) -> None:
    answer = client.post("/api/v1/runs", json={"kind": "circuit", **changes})
    assert answer.status_code == 422, answer.text
    assert field in str(answer.json()["errors"])


def test_equal_sets_are_refused(client: TestClient) -> None:
    texts = ["a b", "b c", "c d", "d e"]
    items = [{"text": text, "positive": sign} for sign in (True, False) for text in texts]
    spec = {"kind": "circuit", "prompts": {"task": "given", "items": items}}
    answer = client.post("/api/v1/runs", json=spec)
    assert answer.status_code == 422
    assert "the positive and the negative prompts are the same" in answer.text


def test_what_is_no_id_is_said(client: TestClient) -> None:
    answer = client.get("/api/v1/runs/nobody")
    assert answer.status_code == 422
    detail = answer.json()["detail"]
    assert "an id is expected, such as" in detail and "not 'nobody'" in detail


def test_the_words_of_tasks_are_those_of_specs() -> None:
    (union, _) = get_args(PromptSource)
    tasks = [get_args(each.model_fields["task"].annotation) for each in get_args(union)]
    assert [name for (name,) in tasks] == list(get_args(CircuitTask))
