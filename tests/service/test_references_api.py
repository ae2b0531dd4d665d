"""Stored things by id, by name, and as the newest there is."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, delete, event, select
from sqlalchemy.orm import Session

from service.circuits.repository import find_circuit, store_circuit
from service.comparisons.repository import find_comparison
from service.database.circuit_tables import Circuit
from service.database.comparison_tables import Comparison
from service.database.session import transaction
from service.kit.errors import NotFound
from tests.support.circuit_rows import made_up
from tests.support.compared_rows import add_comparison
from tests.support.concept_rows import CONCEPT, NAME, add_concept
from tests.support.library_rows import Library, add_library
from tests.support.task_rows import TASK, add_task

pytestmark = pytest.mark.integration

API = "/api/v1"
OLD, NEW = uuid.uuid4(), uuid.uuid4()


@pytest.fixture(scope="module", autouse=True)
def kept(module_engine: Engine, library: Library) -> Iterator[None]:
    with transaction(module_engine) as session:
        add_library(session, "other", features=20)
        add_concept(session, library)
        add_task(session, library)
        for id, age in ((OLD, 2), (NEW, 1)):
            store_circuit(session, id, "who", "tiny", made_up(bare=True), None)
            created = dt.datetime.now(dt.UTC) - dt.timedelta(days=age)
            session.get_one(Circuit, id).created_at = created
    with transaction(module_engine) as session:
        add_comparison(session, library, "other")
    yield


def shown(client: TestClient, path: str) -> str:
    answer = client.get(f"{API}/{path}")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def test_a_name_that_several_circuits_have_means_the_newest(client: TestClient) -> None:
    assert shown(client, "circuits/who") == shown(client, "circuits/latest") == str(NEW)
    assert shown(client, f"circuits/{OLD}") == str(OLD)
    refused = client.delete(f"{API}/circuits/who")
    assert refused.status_code == 409 and "several circuits named 'who'" in refused.json()["detail"]


def test_the_newest_is_shown_and_never_deleted(client: TestClient) -> None:
    assert shown(client, "tasks/latest") == str(TASK)
    assert shown(client, "concepts/latest") == shown(client, f"concepts/{NAME}") == str(CONCEPT)
    comparison = shown(client, "comparisons/latest")
    matches = client.get(f"{API}/comparisons/latest/matches").json()
    assert matches == client.get(f"{API}/comparisons/{comparison}/matches").json()
    for path in ("tasks", "comparisons", "circuits", "concepts"):
        answer = client.delete(f"{API}/{path}/latest")
        assert answer.status_code == 404 and f"GET {API}/{path}" in answer.json()["detail"]
    steer = {"sae": "demo", "prompt": "x", "concepts": ["latest"]}
    assert client.post(f"{API}/inference/steer", json=steer).status_code == 422


@pytest.mark.parametrize("path", ["tasks", "comparisons", "circuits", "concepts"])
@pytest.mark.parametrize("reference", ["nobody", "00000000-0000-0000-0000-0000000000ff", "%00"])
def test_what_is_not_there_is_told_with_where_to_look(
    client: TestClient, path: str, reference: str
) -> None:
    answer = client.get(f"{API}/{path}/{reference}")
    assert answer.status_code in (404, 422)
    if reference != "%00":
        assert answer.status_code == 404 and f"GET {API}/{path} lists" in answer.json()["detail"]


def test_nothing_is_called_by_the_word_for_the_newest(client: TestClient) -> None:
    answer = client.post(f"{API}/runs", json={"kind": "circuit", "name": "latest"})
    assert answer.status_code == 422 and "a word with a meaning of its own" in answer.text


def test_where_there_is_nothing_yet_the_newest_is_not_found(client: TestClient) -> None:
    for path in ("tasks", "comparisons", "circuits", "concepts"):
        pages = client.get(f"{API}/{path}").json()["items"]
        for each in pages:
            assert client.delete(f"{API}/{path}/{each['id']}").status_code == 204
        assert client.get(f"{API}/{path}/latest").status_code == 404


@pytest.mark.parametrize("kind", ["circuits", "comparisons"])
def test_what_is_deleted_while_it_is_looked_for_was_there_or_is_not(
    kind: str, engine: Engine, library: Library
) -> None:
    """Another transaction deletes it after the first statement that reads it."""
    find: Callable[[Session, str], object]
    with transaction(engine) as session:
        if kind == "circuits":
            find, table, id = find_circuit, Circuit, uuid.uuid4()
            store_circuit(session, id, "brief", "tiny", made_up(bare=True), None)
        else:
            find, table = find_comparison, Comparison
            if session.scalar(select(Comparison.id)) is None:
                add_library(session, "third", features=20)
                add_comparison(session, library, "third")
            id = session.scalars(select(Comparison.id)).one()
    statements: list[str] = []

    def deletes(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)
        if len(statements) == 1:
            with engine.connect() as other:
                other.execute(delete(table).where(table.id == id))
                other.commit()

    with transaction(engine) as session:
        event.listen(engine, "after_cursor_execute", deletes)
        try:
            with suppress(NotFound):
                find(session, str(id))
        finally:
            event.remove(engine, "after_cursor_execute", deletes)
    assert any("DELETE" in statement for statement in statements)
    with transaction(engine) as session, pytest.raises(NotFound):
        find(session, str(id))
