"""POST /graphs/{graph}/heads and /score: what is sent on, numbers of sources, what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, delete

from monosemy.graphs.graph import NodeKind
from monosemy.graphs.pruning import prune
from service.database.graph_tables import StoredGraph
from service.database.session import transaction
from tests.support.graph_rows import UPLOADED, add_graph, add_steerable, heads_answer, texas
from tests.support.graph_rows import score_answer as scored
from tests.support.library_rows import Library

pytestmark = pytest.mark.integration

GRAPHS = "/api/v1/graphs"
NODES = prune(texas(), 0.8, 0.98).graph.nodes
FEATURE, ERROR, TOKEN, BIAS, GOAL = (
    int((NODES.kind == kind).nonzero()[0][0])
    for kind in (
        NodeKind.feature,
        NodeKind.error,
        NodeKind.token,
        NodeKind.bias,
        NodeKind.logit,
    )
)


@pytest.fixture(scope="module", autouse=True)
def graphs(module_engine: Engine, library: Library) -> Iterator[None]:
    with transaction(module_engine) as session:
        add_graph(session, id=UPLOADED, name="from elsewhere", model="other", uploaded=True)
        add_steerable(session, library.sae, library.name)
    yield
    with transaction(module_engine) as session:
        session.execute(delete(StoredGraph))


def test_nodes_are_sent_as_what_they_are(client: TestClient, inference: Any) -> None:
    inference.answer = heads_answer()
    for source in (FEATURE, ERROR, TOKEN):
        asked = {"target": GOAL, "source": source, "top": 3}
        answer = client.post(f"{GRAPHS}/steerable/heads", json=asked)
        assert answer.status_code == 200, answer.text
    assert answer.json() == heads_answer()
    sent = [each for path, each in inference.requests if path == "/graph-heads"]
    assert [each["source"]["kind"] for each in sent] == ["feature", "error", "token"]
    assert all(each["target"]["goal"] == 0 and each["top"] == 3 for each in sent)
    assert sent[0]["source"]["latent"] == int(NODES.number[FEATURE])
    assert sent[0]["source"]["coder"] == int(NODES.coder[FEATURE])
    assert sent[1]["source"]["layer"] == int(NODES.layer[ERROR])
    client.post(f"{GRAPHS}/steerable/heads", json={"target": FEATURE, "token": 0})
    last = inference.requests[-1][1]
    assert (last["token"], last["source"], last["target"]["kind"]) == (0, None, "feature")


def test_sources_of_a_score_get_numbers_and_labels(client: TestClient, inference: Any) -> None:
    place = [int(each[FEATURE]) for each in (NODES.layer, NODES.position, NODES.coder)]
    inference.answer = scored(*place, latent=int(NODES.number[FEATURE]))
    asked = {"layer": 1, "head": 0, "token": 4, "source": 2}
    answer = client.post(f"{GRAPHS}/steerable/score", json=asked)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    feature, bias, other = body["query"]
    assert feature["node"] == FEATURE and feature["label"]
    assert bias["node"] is None or NODES.kind[bias["node"]] == NodeKind.bias
    assert other["node"] is None
    ((path, sent),) = inference.requests
    assert path == "/graph-score" and sent["listed"] == 20 and sent["source"] == 2


@pytest.mark.parametrize(
    ("path", "asked", "field", "words"),
    [
        ("heads", {"target": 10**6, "token": 0}, "target", "has nodes 0 to"),
        ("heads", {"target": ERROR, "token": 0}, "target", "of kind error"),
        ("heads", {"target": GOAL, "source": BIAS}, "source", "of kind bias"),
        ("heads", {"target": GOAL, "token": 6}, "token", "tokens 0 to 5"),
        ("heads", {"target": GOAL}, "", "give source or token"),
        ("heads", {"target": GOAL, "source": 0, "token": 1}, "", "give source or token"),
        ("score", {"layer": 0, "head": 0, "token": 1}, "source", ""),
        ("score", {"layer": -1, "head": 0, "token": 1, "source": 0}, "layer", ""),
    ],
)
def test_bad_questions_are_refused_at_their_field(
    client: TestClient, inference: Any, path: str, asked: Any, field: str, words: str
) -> None:
    answer = client.post(f"{GRAPHS}/steerable/{path}", json=asked)
    assert answer.status_code == 422, answer.text
    faults = answer.json()["errors"]
    assert any(each["path"] == field and words in each["message"] for each in faults), faults
    assert inference.requests == []


def test_nodes_that_no_edge_can_join_are_refused(client: TestClient, inference: Any) -> None:
    feature = (NODES.kind == NodeKind.feature).nonzero()[0]
    low, late = feature[NODES.layer[feature] == 0], int(NODES.position[feature].max())
    here = [int(n) for n in low if NODES.position[n] < late][:2]
    early = int(here[0])
    error = next(n for n in (NODES.kind == NodeKind.error).nonzero()[0] if NODES.layer[n] > 0)
    behind = next(n for n in low if NODES.position[n] > NODES.position[early])
    upper = next(
        n for n in feature if NODES.layer[n] > 0 and NODES.position[n] < NODES.position[behind]
    )
    for asked, field, words in (
        ({"target": early, "source": early}, "source", "to itself"),
        ({"target": here[1], "source": here[0]}, "source", "leads up|later one"),
        ({"target": GOAL, "source": GOAL}, "source", "of kind logit"),
        ({"target": early, "source": int(error)}, "source", "leads up|later one"),
        ({"target": int(upper), "source": int(behind)}, "source", "from a token to itself or"),
        ({"target": early, "token": int(NODES.position[early]) + 1}, "token", "reads tokens 0 to"),
    ):
        answer = client.post(f"{GRAPHS}/steerable/heads", json=asked)
        assert answer.status_code == 422, (asked, answer.text)
        faults = answer.json()["errors"]
        assert [each["path"] for each in faults] == [field]
        assert re.search(words, faults[0]["message"]), faults
    assert inference.requests == []


def test_what_cannot_be_answered(client: TestClient, inference: Any) -> None:
    heads, score = {"target": FEATURE, "token": 0}, {"layer": 0, "head": 9, "token": 1, "source": 0}
    for path, asked in (("heads", heads), ("score", score)):
        answer = client.post(f"{GRAPHS}/from elsewhere/{path}", json=asked)
        assert answer.status_code == 409 and answer.json()["type"].endswith("graph-cannot-run")
        assert client.post(f"{GRAPHS}/nothing/{path}", json=asked).status_code == 404
    inference.status, inference.answer = 422, {"detail": "The block has heads 0 to 3."}
    answer = client.post(f"{GRAPHS}/steerable/score", json=score)
    assert answer.status_code == 422 and "heads 0 to 3" in answer.json()["detail"]
    inference.away = True
    assert client.post(f"{GRAPHS}/steerable/heads", json=heads).status_code == 503
