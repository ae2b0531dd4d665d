"""POST /inference/read: each feature once, in the order asked for, as much as the context holds."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from service.database.session import transaction
from service.inference.reading import chosen_firing, significant
from tests.support.library_rows import Library, add_explanation

pytestmark = pytest.mark.integration

URL = "/api/v1/inference/read"
# Features of the library: maximum index % 7, density (index % 5) / 100; 99 is none of its.
ANSWER = {
    "tokens": [{"id": 2, "text": " king"}, {"id": 4, "text": " sat"}],
    "saes": [
        {
            "features": [[[13, 3.0], [8, 0.9], [11, 0.5]], [[8, 0.123456789]]],
            "chosen": [[0.0, 0.25]],
            "unexplained": [0.25, 1.0],
            "fires": [3, 1],
        }
    ],
    "left_out": 3,
}


def asked(**changes: Any) -> dict[str, Any]:
    return {"saes": [{"sae": "demo", "follow": [4]}], "text": " king sat", **changes}


def shown(body: dict[str, Any]) -> list[list[tuple[int, float]]]:
    index = body["features"]["index"]
    return [[(index[place], value) for place, value in token] for token in body["firing"]]


@pytest.fixture(scope="module", autouse=True)
def explained(module_engine: Engine, library: Library) -> None:
    with transaction(module_engine) as session:
        add_explanation(session, library, 8, "monarchs", "Rulers.", 0.9)


def test_each_feature_is_described_once(client: TestClient, inference: Any) -> None:
    inference.answer = ANSWER
    answer = client.post(URL, json=asked())
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["tokens"] == {"id": [2, 4], "text": [" king", " sat"]}
    assert body["left_out"] == 3 and body["unexplained"] == [[0.25, 1.0]]
    assert body["fires"] == [[3, 1]]
    features = body["features"]
    assert features["index"] == [4, 13, 8, 11] and features["sae"] == [0] * 4
    assert features["label"][2] == "monarchs"
    assert features["density"] == [0.04, 0.03, 0.03, 0.01]
    assert features["max_activation"] == [4.0, 6.0, 1.0, 4.0]
    assert shown(body) == [[(13, 3.0), (8, 0.9), (11, 0.5)], [(8, 0.123457)]]
    assert body["followed"] == [{"feature": 0, "activations": [0.0, 0.25]}]
    path, sent = inference.requests[0]
    assert path == "/activations" and sent["top_k"] == 5
    assert sent["clip"] and sent["unexplained"]
    assert sent["saes"][0]["features"] == [4] and sent["saes"][0]["only"] is False


@pytest.mark.parametrize(
    ("order", "first"),
    [("activation", [13, 8]), ("share", [8, 13]), ("rarity", [11, 13])],
)
def test_the_order_says_which_are_given(
    client: TestClient, inference: Any, order: str, first: list[int]
) -> None:
    inference.answer = ANSWER
    body = client.post(URL, json=asked(order=order, top_k=2)).json()
    assert [index for index, _ in shown(body)[0]] == first
    assert inference.requests[-1][1]["top_k"] == (2 if order == "activation" else 100)


def test_what_is_not_indexed_comes_last() -> None:
    firing = [[(99, 9.0), (1, 0.5), (2, 0.4)]]
    from service.features.repository import FiringFacts

    facts = {1: FiringFacts(0.5, 0.0), 2: FiringFacts(0.1, 0.8)}
    assert [i for i, _ in chosen_firing(firing, facts, "share", 5)[0]] == [2, 1, 99]
    assert [i for i, _ in chosen_firing(firing, facts, "rarity", 5)[0]] == [2, 1, 99]
    assert significant(1234567.0) == 1234570.0 and significant(0.0) == 0.0


def test_faults_are_told_at_their_fields(client: TestClient, inference: Any) -> None:
    assert client.post(URL, json=asked(saes=[{"sae": "nobody"}])).status_code == 404
    answer = client.post(URL, json=asked(saes=[{"sae": "demo", "follow": [10**6]}]))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["path"] == "saes.0.follow"
    assert client.post(URL, json=asked(order="size")).status_code == 422
    assert inference.requests == []
    inference.away = True
    away = client.post(URL, json=asked())
    assert away.status_code == 503 and int(away.headers["retry-after"]) > 0
