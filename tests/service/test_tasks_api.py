"""Tasks over REST and in the client: listed, shown, deleted."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from monosemy.circuits.supervised.words import sentences
from service.database.session import transaction
from service.tasks.repository import delete_task, keep_task
from tests.support.library_rows import Library
from tests.support.task_rows import TASK, add_task, task_result

pytestmark = pytest.mark.integration

TASKS = "/api/v1/tasks"


@pytest.fixture
def kept(module_engine: Engine, library: Library) -> Iterator[None]:
    with transaction(module_engine) as session:
        add_task(session, library)
    yield
    with transaction(module_engine) as session:
        delete_task(session, TASK)


@pytest.mark.usefixtures("kept")
def test_it_is_listed_in_short_and_shown_whole(client: TestClient, library: Library) -> None:
    (row,) = client.get(TASKS, params={"sae": "demo"}).json()["items"]
    assert row["id"] == str(TASK) and row["saes"] == ["demo"]
    assert row["edited"] == "IO" and row["test"] == 400
    by_name = {each["name"]: each for each in row["methods"]}
    assert by_name["demo"]["sufficiency"]["value"] == 0.625
    assert by_name["demo"]["edits"]["value"] == 0.2  # of the fewest features
    assert by_name["random directions, 8 active"]["sufficiency"]["value"] is None

    whole = client.get(f"{TASKS}/{TASK}").json()
    expected = task_result("demo", str(library.sae)).model_dump(mode="json")
    assert {name: whole[name] for name in expected} == expected


@pytest.mark.usefixtures("kept")
def test_of_an_sae_that_was_not_tried_there_is_none(client: TestClient) -> None:
    assert client.get(TASKS, params={"sae": "nothing"}).status_code == 404
    assert client.get(f"{TASKS}/{uuid.uuid4()}").status_code == 404
    assert "GET /api/v1/tasks" in client.get(f"{TASKS}/{uuid.uuid4()}").json()["detail"]
    assert client.get(f"{TASKS}/odd").status_code == 404


@pytest.mark.usefixtures("kept")
def test_it_outlives_an_sae_that_is_gone(
    client: TestClient, module_engine: Engine, library: Library
) -> None:
    other = uuid.uuid4()
    with transaction(module_engine) as session:
        keep_task(session, other, [library.sae, uuid.uuid4()], task_result())
    assert client.get(f"{TASKS}/{other}").json()["saes"] == ["demo"]
    assert len(client.get(TASKS, params={"limit": 1}).json()["items"]) == 1
    assert client.delete(f"{TASKS}/{other}").status_code == 204
    assert client.get(f"{TASKS}/{other}").status_code == 404


def test_findings_are_told_in_words() -> None:
    split, occluded = sentences(task_result())
    assert "IO is split over many features" in split
    assert "single features reach 0.31 (0.27–0.35), shuffled labels 0.11" in split
    assert "unions of 3.5 features on average 0.78" in split
    assert "Pos is occluded by IO, whose codes are longer" in occluded
    assert "the supervised dictionary tells its values (F1 0.94" in occluded
    (twin,) = sentences(task_result(), ("frozen",))
    assert twin.startswith("demo, frozen decoder, blocks.9.hook_resid_post at end: IO is occluded:")
