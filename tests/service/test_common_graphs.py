"""What stored graphs have in common, over REST: by graph or by run, and refused with reasons."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, delete

from monosemy.graphs.common import common
from service.database.graph_tables import StoredGraph
from service.database.session import transaction
from tests.support.feature_circuit_rows import CIRCUIT, add_feature_circuit
from tests.support.graph_rows import (
    GRAPH,
    PARAPHRASED,
    PARAPHRASES,
    UPLOADED,
    add_graphs,
    add_paraphrases,
)
from tests.support.library_rows import Library
from tests.support.planted_common import CORE, prompt_graph

pytestmark = pytest.mark.integration

COMMON = "/api/v1/graphs/common"


@pytest.fixture(scope="module", autouse=True)
def stored(module_engine: Engine, library: Library) -> Iterator[None]:
    with transaction(module_engine) as session:
        add_paraphrases(session)
        add_graphs(session)
    yield
    with transaction(module_engine) as session:
        session.execute(delete(StoredGraph))


def asked(client: TestClient, **query: Any) -> dict[str, Any]:
    answer = client.get(COMMON, params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_graphs_by_name_id_and_run_say_the_same(client: TestClient) -> None:
    by_run = asked(client, run=str(PARAPHRASED))
    names = [f"paraphrase-{place}" for place in (1, 2, 3)]
    by_name = asked(client, graph=names)
    assert [each["name"] for each in by_run["graphs"]] == names
    assert by_run.pop("run") == str(PARAPHRASED) and by_name.pop("run") is None
    assert by_run == by_name
    by_id = asked(client, graph=[str(each) for each in PARAPHRASES])
    assert by_id["units"] == by_name["units"]
    core = {each["latent"]: each for each in by_run["units"] if each["latent"] in CORE}
    assert {*core} == {*CORE}
    assert all(each["graphs"] == each["positive"] == 3 for each in core.values())
    assert by_run["has_null"] and by_run["served"] == [False] * 3
    listed = client.get("/api/v1/graphs", params={"run": str(PARAPHRASED)}).json()["items"]
    assert [(each["place"], each["prompts"]) for each in listed] == [(2, 3), (1, 3), (0, 3)]
    assert {each["run"] for each in listed} == {str(PARAPHRASED)}


def test_it_is_what_the_library_says_of_the_stored_graphs(client: TestClient) -> None:
    """Pruning leaves the core; shares are those of the stored graphs."""
    made = asked(client, run=str(PARAPHRASED), least=3, features=300, align="sum")
    whole = common([prompt_graph(place) for place in range(3)], least=3, listed=300)
    shares = {each.latent: each.share.value for each in whole.units if each.kind == "feature"}
    assert made["n"] == 3 and {each["graphs"] for each in made["units"]} == {3}
    for each in made["units"]:
        if each["latent"] in CORE:
            assert each["share"]["value"] == pytest.approx(shares[each["latent"]], rel=0.2)
    few = asked(client, run=str(PARAPHRASED), features=1)
    assert sum(each["kind"] == "feature" for each in few["units"]) == 1 < few["features"]


def test_others_stand_beside(client: TestClient) -> None:
    made = asked(client, graph=["paraphrase-1", "paraphrase-2"], against="paraphrase-3")
    assert made["n"] == 2 and made["n_against"] == 1
    assert made["overlap"]["divisions"] == 3 and made["overlap"]["interval"] is None
    assert all(each["against_graphs"] == 1 for each in made["units"] if each["latent"] in CORE)


def test_what_cannot_be_laid_over_each_other_is_refused(client: TestClient) -> None:
    one, two = "paraphrase-1", "paraphrase-2"
    for query, status, says in (
        ({}, 422, "name two graphs"),
        ({"graph": one}, 422, "it takes 2 to 50"),
        ({"graph": [one, one]}, 422, "named twice"),
        ({"graph": [one, str(PARAPHRASES[0])]}, 422, "named twice"),
        ({"graph": [one, two], "run": str(PARAPHRASED)}, 422, "or a run"),
        ({"graph": [one, two], "against": two}, 422, "named twice, or is one of those"),
        ({"graph": [one, two], "least": 3}, 422, "there are 2 graphs"),
        ({"graph": [one, two], "least": 1}, 422, "least"),
        ({"graph": [one, two], "align": "start"}, 422, "align"),
        ({"graph": [one, "none"]}, 404, "There is no graph"),
        ({"run": str(uuid.UUID(int=5))}, 404, "graph of a run"),
        ({"run": str(GRAPH)}, 422, "it takes 2 to 50"),
        ({"graph": [one, str(UPLOADED)]}, 422, "was uploaded"),
        ({"graph": [one, "texas"]}, 409, "another host model, or through other SAEs"),
        ({"graph": [one, two], "against": "texas"}, 409, "another host model"),
        ({"graph": [one] * 51}, 422, "graph"),
    ):
        answer = client.get(COMMON, params=query)
        assert answer.status_code == status, (query, answer.text)
        assert says in answer.text, (query, answer.text)


def test_feature_circuits_are_not_laid_over_graphs(
    client: TestClient, module_engine: Engine
) -> None:
    one, two = "paraphrase-1", "paraphrase-2"
    with transaction(module_engine) as session:
        add_feature_circuit(session)
    for query in (
        {"graph": [one, "ioi"]},
        {"graph": ["ioi", one]},
        {"graph": [one, two], "against": str(CIRCUIT)},
    ):
        answer = client.get(COMMON, params=query)
        assert answer.status_code == 422, answer.text
        assert "'ioi' is a feature circuit" in answer.text
    for kind, run, count in (
        ("graph", PARAPHRASED, 3),
        ("feature_circuit", PARAPHRASED, 0),
        ("feature_circuit", CIRCUIT, 1),
    ):
        listed = client.get("/api/v1/graphs", params={"kind": kind, "run": str(run)}).json()
        assert [each["run"] for each in listed["items"]] == [str(run)] * count


def test_no_graph_is_named_as_the_address_is(client: TestClient) -> None:
    spec = {"prompt": "a b", "set": "tc", "name": "common"}
    answer = client.post("/api/v1/graphs", json=spec)
    assert answer.status_code == 422 and "a meaning of its own" in answer.text
    for spec, says in (
        ({"set": "tc"}, "give either prompt, or prompts"),
        ({"set": "tc", "prompt": "a", "prompts": ["b"]}, "give either prompt, or prompts"),
        ({"set": "tc", "prompts": ["b", "b"]}, "twice"),
        ({"set": "tc", "prompts": [""]}, "prompts.0"),
    ):
        answer = client.post("/api/v1/graphs", json=spec)
        assert answer.status_code == 422 and says in answer.text, answer.text


def test_names_of_several_must_be_free(client: TestClient, library: Library) -> None:
    spec = {"prompts": ["a b", "c d"], "saes": [library.name], "name": "paraphrase"}
    answer = client.post("/api/v1/graphs", json=spec)
    assert answer.status_code == 409, answer.text
    assert "paraphrase-1" in answer.text
