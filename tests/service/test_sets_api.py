"""Sets over REST: made of stored SAEs, deleted, and shown with what was measured of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, delete, text

from monosemy.specs.hooks import Hooks
from service.database.session import transaction
from service.database.tables import Run, Sae
from tests.support.gathered_rows import add_beside
from tests.support.library_rows import Library, add_library

pytestmark = pytest.mark.integration

SETS = "/api/v1/sets"
LAYERS = {"two": 2, "nought": 0, "one": 1}
METRICS = {"members": [{"site": "blocks.0.hook_resid_post", "fvu": 0.25}], "ce_clean": 3.5}


@pytest.fixture(scope="module", autouse=True)
def stored(module_engine: Engine, library: Library) -> None:
    """SAEs of three layers; one that writes as ``one`` does, a crosscoder, another host model's."""
    with transaction(module_engine) as session:
        for name, layer in LAYERS.items():
            add_beside(session, library.name, name, f"blocks.{layer}.hook_resid_post")
        add_beside(session, library.name, "again", "blocks.1.hook_resid_post")
        several = add_beside(session, library.name, "several", "blocks.3.hook_resid_post")
        hooks = Hooks.at(["blocks.1.hook_resid_post", "blocks.3.hook_resid_post"])
        several.config = {**several.config, "hooks": hooks.as_dict()}
        add_library(session, "elsewhere", 2)


@pytest.fixture(autouse=True)
def apart(module_engine: Engine) -> Iterator[None]:
    yield
    with transaction(module_engine) as session:
        session.execute(text("UPDATE saes SET config = config - 'set'"))
        session.execute(delete(Run))


def made(client: TestClient, *saes: str, name: str = "all", code: int = 201) -> Any:
    answer = client.post(SETS, json={"name": name, "saes": list(saes)})
    assert answer.status_code == code, answer.text
    return answer.json()


def test_a_set_is_by_layer_whatever_the_order(client: TestClient) -> None:
    answer = client.post(SETS, json={"name": "a b", "saes": list(LAYERS)})
    assert answer.status_code == 201 and answer.headers["Location"] == f"{SETS}/a%20b"
    view = client.get(answer.headers["Location"]).json()
    assert view == answer.json() and view["evaluation"] is None
    assert [each["name"] for each in view["saes"]] == ["nought", "one", "two"]
    places = [each["set"] for each in view["saes"]]
    assert places == [{"name": "a b", "place": place, "size": 3} for place in range(3)]
    assert view["layers"] == [0, 1, 2] and view["reads"] == "blocks.*.hook_resid_post"


@pytest.mark.parametrize(
    ("saes", "field", "why"),
    [
        (["one", "none"], "saes.1", "no SAE"),
        (["one", "one"], "saes.1", "named twice"),
        (["one", "elsewhere"], "saes.1", "of another host model"),
        (["one", "two", "again"], "saes.2", "writes blocks.1.hook_resid_post, as 'one' does"),
        (["several", "two"], "saes.0", "has several places"),
        (["one"], "saes", "at least 2"),
    ],
)
def test_what_does_not_fit_together_is_refused_at_its_field(
    client: TestClient, saes: list[str], field: str, why: str
) -> None:
    problem = made(client, *saes, code=422)
    (error,) = problem["errors"]
    assert (error["path"], why in error["message"]) == (field, True), problem
    assert client.get(SETS).json()["items"] == []


def test_names_and_saes_are_of_one_set_each(client: TestClient) -> None:
    made(client, "one", "two")
    assert "a set named 'all' already" in made(client, "nought", "again", code=409)["detail"]
    taken = made(client, "nought", "two", name="more", code=409)
    assert "'two' is of the set 'all'" in taken["detail"] and "its SAEs stay" in taken["detail"]
    assert client.get("/api/v1/saes/nought").json()["set"] is None
    made(client, "nought", "again", name="new", code=422)


def test_deleting_leaves_the_saes(client: TestClient, module_engine: Engine) -> None:
    made(client, "one", "two")
    assert client.delete(f"{SETS}/none").status_code == 404
    assert client.delete(f"{SETS}/all").status_code == 204
    assert client.get(f"{SETS}/all").status_code == client.delete(f"{SETS}/all").status_code == 404
    assert client.get("/api/v1/saes/one").json()["set"] is None
    made(client, "one", "two")
    with transaction(module_engine) as session:
        spec = {"kind": "graph", "prompt": "the king", "set": "all"}
        session.add(Run(kind="graph", queue="gpu", spec=spec, state="queued"))
    refused = client.delete(f"{SETS}/all")
    assert refused.status_code == 409 and "works on the set 'all'" in refused.json()["detail"]


def test_what_was_measured_is_of_just_these_saes(client: TestClient, module_engine: Engine) -> None:
    ids = {each["name"]: each["id"] for each in made(client, "one", "two")["saes"]}
    now = dt.datetime.now(dt.UTC)

    def measured(minutes: int, *saes: str, state: str = "succeeded") -> str:
        result = {"saes": [ids.get(each, each) for each in saes], "metrics": METRICS}
        ended = now - dt.timedelta(minutes=minutes)
        row = Run(kind="evaluate_set", queue="gpu", spec={"kind": "evaluate_set", "saes": [*saes]})
        row.state, row.result, row.finished_at = state, result, ended
        with transaction(module_engine) as session:
            session.add(row)
            session.flush()
            return str(row.id)

    for wrong in (("two", "one"), ("two",), ("one", "two", "other")):
        measured(1, *wrong)
    measured(1, "one", "two", state="failed")
    assert client.get(f"{SETS}/all").json()["evaluation"] is None
    measured(9, "one", "two")
    newest = measured(5, "one", "two")
    evaluation = client.get(f"{SETS}/all").json()["evaluation"]
    assert (evaluation["run_id"], evaluation["metrics"]) == (newest, METRICS)
    with transaction(module_engine) as session:
        session.query(Sae).filter(Sae.name == "two").one().config = {"k": 4}
    assert client.get(f"{SETS}/all").json()["evaluation"] is None, "an SAE is not there any more"
