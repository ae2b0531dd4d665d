"""POST /graphs/{graph}/steer: what is sent on, how features get numbers and labels, what is
refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, delete

from monosemy.graphs.graph import NodeKind
from monosemy.graphs.pruning import prune
from service.database.graph_tables import StoredGraph
from service.database.session import transaction
from service.database.tables import Sae
from tests.support.graph_rows import STEERABLE, UPLOADED, add_graph, add_steerable, steered, texas
from tests.support.library_rows import Library

pytestmark = pytest.mark.integration

GRAPHS = "/api/v1/graphs"
NODES = prune(texas(), 0.8, 0.98).graph.nodes
FEATURE = int((NODES.kind == NodeKind.feature).nonzero()[0][0])
ERROR = int((NODES.kind == NodeKind.error).nonzero()[0][0])


@pytest.fixture(scope="module", autouse=True)
def graphs(module_engine: Engine, library: Library) -> Iterator[None]:
    with transaction(module_engine) as session:
        add_graph(session, id=UPLOADED, name="from elsewhere", model="other", uploaded=True)
        add_graph(session, [(library.sae, library.name)])
        add_steerable(session, library.sae, library.name)
    yield
    with transaction(module_engine) as session:
        session.execute(delete(StoredGraph))


def test_nodes_and_latents_are_sent_as_places(client: TestClient, inference: Any) -> None:
    place = [int(each[FEATURE]) for each in (NODES.coder, NODES.number, NODES.position)]
    inference.answer = steered([tuple(place)])  # type: ignore[list-item]
    edits = [
        {"node": FEATURE},
        {"node": FEATURE, "mode": "scale", "strength": 2, "position": "every"},
        {"sae": "demo", "latent": 3, "mode": "clamp", "strength": 1.5, "position": 4},
        {"sae": "demo", "latent": 5, "mode": "add", "strength": -1},
    ]
    answer = client.post(f"{GRAPHS}/steerable/steer", json={"edits": edits, "held": "mlps"})
    assert answer.status_code == 200, answer.text
    ((path, sent),) = inference.requests
    assert path == "/graph-steering" and sent["held"] == "mlps" and len(sent["saes"]) == 4
    assert sent["ids"] == list(range(6)) and sent["whole_tokens"] == 1
    assert sent["goals"]["of"] == "top" or sent["goals"]["tokens"]
    coder, latent, position = place
    at = {"coder": coder, "latent": latent}
    assert sent["edits"] == [
        {**at, "position": position, "mode": "ablate", "strength": None},
        {**at, "position": "every", "mode": "scale", "strength": 2},
        {"coder": 0, "latent": 3, "position": 4, "mode": "clamp", "strength": 1.5},
        {"coder": 0, "latent": 5, "position": "firing", "mode": "add", "strength": -1},
    ]
    body = answer.json()
    (edited,) = body["edited"]
    assert edited["node"] == FEATURE and edited["label"]
    moved, switched_on = body["features"]
    assert moved["label"] and switched_on["predicted"] is None
    for each in body["features"]:
        at = (NODES.kind == NodeKind.feature) & (NODES.coder == each["coder"])
        at &= (NODES.number == each["latent"]) & (NODES.position == each["position"])
        assert each["node"] == (int(at.nonzero()[0][0]) if at.any() else None)


@pytest.mark.parametrize(
    ("edit", "path", "words"),
    [
        ({"node": 10**6}, "edits.0.node", "has nodes 0 to"),
        ({"node": ERROR}, "edits.0.node", "of kind error"),
        ({"sae": "nobody", "latent": 1}, "edits.0.sae", "no SAE 'nobody'; it has demo"),
        ({"sae": "demo", "latent": 10**6}, "edits.0.latent", "has latents 0 to"),
        ({"node": FEATURE, "position": 6}, "edits.0.position", "tokens 0 to 5"),
        ({"node": FEATURE, "mode": "scale"}, "edits.0", "scale needs a strength"),
        ({"node": FEATURE, "strength": 2}, "edits.0", "ablate takes no strength"),
        ({"node": FEATURE, "sae": "demo", "latent": 1}, "edits.0", "give node, or sae and latent"),
        ({"latent": 1}, "edits.0", "give node, or sae and latent"),
        ({}, "edits.0", "give node, or sae and latent"),
        ({"node": FEATURE, "mode": "set"}, "edits.0.mode", "ablate"),
        ({"nod": 1}, "edits.0.nod", "did you mean 'node'"),
    ],
)
def test_bad_edits_are_refused_at_their_field(
    client: TestClient, inference: Any, edit: dict[str, Any], path: str, words: str
) -> None:
    answer = client.post(f"{GRAPHS}/steerable/steer", json={"edits": [edit]})
    assert answer.status_code == 422, answer.text
    faults = answer.json()["errors"]
    assert any(each["path"] == path and words in each["message"] for each in faults), faults
    assert inference.requests == []


def test_too_many_edits_and_none(client: TestClient) -> None:
    for edits in ([], [{"node": FEATURE}] * 51):
        answer = client.post(f"{GRAPHS}/steerable/steer", json={"edits": edits})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["path"] == "edits"


def test_a_graph_that_cannot_run_again(
    client: TestClient, inference: Any, module_engine: Engine, library: Library
) -> None:
    def refused(graph: str) -> str:
        answer = client.post(f"{GRAPHS}/{graph}/steer", json={"edits": [{"node": FEATURE}]})
        assert answer.status_code == 409, answer.text
        assert answer.json()["type"].endswith("graph-cannot-run")
        return str(answer.json()["detail"])

    def provenance(**now: Any) -> None:
        with transaction(module_engine) as session:
            session.get_one(Sae, library.sae).provenance = now

    assert "was uploaded" in refused("from elsewhere")
    heads = client.post(f"{GRAPHS}/from elsewhere/heads", json={"target": 0, "source": 1})
    for said in (refused("from elsewhere"), heads.json()["detail"]):
        assert said.endswith(
            "Trace its prompt here, with SAEs of this service, and ask that graph."
        )
    assert "'gone-1', 'gone-2', 'gone-3'" in refused("texas")
    provenance(weights={"digest": "f" * 16})
    assert "have other weights now" in refused("steerable")
    provenance(model={"fingerprint": "another"})
    with transaction(module_engine) as session:
        row = session.get_one(StoredGraph, STEERABLE)
        about = {"host": {"name": "host", "fingerprint": "the same"}}
        graph = texas()
        session.delete(row)
        session.flush()
        add_graph(
            session,
            [(library.sae, library.name)] * 4,
            id=STEERABLE,
            name="steerable",
            checked=False,
            graph=type(graph)(**{**vars_of(graph), "about": {**graph.about, **about}}),
        )
    assert "is of another tiny" in refused("steerable")
    provenance(model={"fingerprint": "the same"})
    inference.answer = steered()
    answer = client.post(f"{GRAPHS}/steerable/steer", json={"edits": [{"node": FEATURE}]})
    assert answer.status_code == 200 and inference.requests[-1][1]["fingerprint"] == "the same"
    provenance()


def vars_of(graph: Any) -> dict[str, Any]:
    return {name: getattr(graph, name) for name in graph.__dataclass_fields__}


def test_what_the_inference_server_says_is_passed_on(client: TestClient, inference: Any) -> None:
    asked = {"edits": [{"node": FEATURE}]}
    inference.status, inference.answer = 422, {"detail": "Latent 3 fires at no token."}
    answer = client.post(f"{GRAPHS}/steerable/steer", json=asked)
    assert answer.status_code == 422 and "fires at no token" in answer.json()["detail"]
    inference.status, inference.answer = 200, {**steered(), "kl": "much"}
    answer = client.post(f"{GRAPHS}/steerable/steer", json=asked)
    assert answer.status_code == 503 and "kl" in answer.json()["detail"]
    inference.away = True
    assert client.post(f"{GRAPHS}/steerable/steer", json=asked).status_code == 503
    assert client.post(f"{GRAPHS}/nothing/steer", json=asked).status_code == 404
