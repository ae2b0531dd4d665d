"""POST /inference/contrast: what is sent on, how candidates are reranked, what goes wrong."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from service.database.session import transaction
from tests.support.library_rows import Library, add_explanation, unit

pytestmark = pytest.mark.integration

URL = "/api/v1/inference/contrast"


def figures(feature: int, statistic: float) -> dict[str, Any]:
    return {
        "feature": feature,
        "statistic": statistic,
        "p_value": 0.05,
        "auroc": statistic + 0.5,
        "standardised": 1.5,
        "mean_positive": 2.0,
        "mean_negative": 0.5,
        "share_positive": 1.0,
        "share_negative": 0.25,
    }


ANSWER = {
    "positive": [figures(f, 0.5 - n / 100) for n, f in enumerate((11, 12, 13, 14, 1000))],
    "negative": [figures(21, -0.5), figures(22, -0.4)],
    "relabellings": 20,
    "exact": True,
    "tokens": 31,
}
TEXTS = {"positive": ["a whale", "whales"], "negative": ["a clock"]}


@pytest.fixture(scope="module", autouse=True)
def explained(module_engine: Engine, library: Library) -> None:
    """13 has two explanations, of which the nearer counts; 14 one far off; 11 and 12 have none."""
    with transaction(module_engine) as session:
        add_explanation(session, library, 13, "clocks", "Clocks.", embedding=unit(9))
        add_explanation(session, library, 13, "whales", "Whales.", 0.9, unit(5), key="other")
        add_explanation(session, library, 14, "ships", "Ships.", embedding=unit(8))


def test_features_come_with_names_and_figures(
    client: TestClient, inference: Any, library: Library
) -> None:
    inference.answer = ANSWER
    asked = {"sae": "demo", **TEXTS, "chat": True, "pooling": "max", "statistic": "share"}
    answer = client.post(URL, json={**asked, "top_k": 3})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [each["index"] for each in body["positive"]] == [11, 12, 13]
    assert [each["rank"] for each in body["negative"]] == [1, 2]
    assert body["positive"][2] == {
        "index": 13,
        "label": "whales",
        "rank": 3,
        **{k: v for k, v in figures(13, 0.48).items() if k not in ("feature", "statistic")},
        "similarity": None,
        "rank_score": None,
        "values": None,
    }
    counts = {"n_positive": 2, "n_negative": 1, "tokens": 31, "relabellings": 20, "exact": True}
    assert {name: body[name] for name in counts} == counts
    assert body["statistic"] == "share" and body["sae"]["name"] == "demo"
    assert body["reranked"] is False and body["reason"] is None
    (path, sent), *others = inference.requests
    assert path == "/contrast" and not others
    assert sent == {
        "sae": {
            "id": str(library.sae),
            "path": "saes/demo",
            "site": "blocks.1.hook_resid_post",
            "recorded": None,
        },
        "model": {"name": "tiny", "revision": None, "dtype": "float32", "device": "cpu"},
        **TEXTS,
        "chat": True,
        "pooling": "max",
        "statistic": "share",
        "top": 3,
        "values": False,
    }


def test_values_of_every_text_come_where_they_are_asked_for(
    client: TestClient, inference: Any
) -> None:
    first = {**ANSWER["positive"][0], "values": [2.5, 1.5, 0.5]}
    inference.answer = {**ANSWER, "positive": [first]}
    found = client.post(URL, json={"sae": "demo", **TEXTS, "values": True}).json()
    assert found["positive"][0]["values"] == [2.5, 1.5, 0.5]
    assert inference.requests[-1][1]["values"] is True


def rerank(client: TestClient, inference: Any, **changes: Any) -> dict[str, Any]:
    """Evidence labels that speak of queens are about sea animals here, those of kings are not."""
    inference.answers["/contrast"] = ANSWER
    inference.axes = {"sea animals": 5, 'token " queen" (90 %)': 5, 'token " king" (90 %)': 7}
    asked = {"description": "sea animals", **changes.pop("rerank", {})}
    answer = client.post(URL, json={"sae": "demo", **TEXTS, "rerank": asked, **changes})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_candidates_are_reranked_by_what_explains_them(
    client: TestClient, inference: Any, library: Library
) -> None:
    reranked = rerank(client, inference)
    assert reranked["reranked"] is True and reranked["reason"] is None
    assert inference.requests[0][1]["top"] == 100
    # 12 and 13 are nearest, 11 and 14 far off, 1000 has neither explanation nor label.
    expected = {
        12: (2, 1.0, 1 / 62 + 1 / 61),
        11: (1, 0.0, 1 / 61 + 1 / 63),
        13: (3, 1.0, 1 / 63 + 1 / 62),
        14: (4, 0.0, 1 / 64 + 1 / 64),
        1000: (5, None, 1 / 65),
    }
    assert [each["index"] for each in reranked["positive"]] == list(expected)
    for each in reranked["positive"]:
        rank, similarity, score = expected[each["index"]]
        assert each["rank"] == rank and each["p_value"] == 0.05
        assert each["rank_score"] == pytest.approx(score)
        assert each["similarity"] == (
            None if similarity is None else pytest.approx(similarity, abs=1e-3)
        )
    assert [each["rank_score"] for each in reranked["negative"]] == [None, None]
    # Only what has no embedded explanation is embedded now, once.
    embedded = [body["texts"] for path, body in inference.requests if path == "/embed"]
    assert embedded[0] == ["sea animals"]
    assert sorted(embedded[1]) == ['token " king" (90 %)', 'token " queen" (90 %)']


def test_only_candidates_move(client: TestClient, inference: Any, library: Library) -> None:
    body = rerank(client, inference, rerank={"candidates": 3}, top_k=4)
    assert inference.requests[0][1]["top"] == 4
    assert [each["index"] for each in body["positive"]] == [12, 11, 13, 14]
    assert [each["rank_score"] is None for each in body["positive"]] == [False, False, False, True]


@pytest.mark.parametrize("vectors", [[[0.0] * 384], [[0.0] * 7, [0.0] * 7], [[1.0]]])
def test_without_an_embedder_the_statistic_orders_and_that_is_said(
    client: TestClient, inference: Any, library: Library, vectors: list[list[float]]
) -> None:
    inference.answers["/embed"] = {"embeddings": vectors}
    body = rerank(client, inference)
    assert body["reranked"] is False and body["reason"]
    assert [each["index"] for each in body["positive"]] == [11, 12, 13, 14, 1000]
    assert {each["rank_score"] for each in body["positive"]} == {None}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"sae": "nothing"}, 404),
        ({"positive": []}, 422),
        ({"negative": None}, 422),
        ({"negative": [""]}, 422),
        ({"positive": ["x"] * 65}, 422),
        ({"positive": ["x" * 4001]}, 422),
        ({"positive": "a text"}, 422),
        ({"statistic": "magic"}, 422),
        ({"pooling": "last"}, 422),
        ({"top_k": 101}, 422),
        ({"top_k": True}, 422),
        ({"rerank": {}}, 422),
        ({"rerank": {"description": ""}}, 422),
        ({"rerank": {"description": "x", "candidates": 201}}, 422),
        ({"surplus": 1}, 422),
    ],
)
def test_what_cannot_be_served(
    client: TestClient, inference: Any, library: Library, changes: dict[str, Any], status: int
) -> None:
    answer = client.post(URL, json={"sae": "demo", **TEXTS, **changes})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert inference.requests == []


@pytest.mark.parametrize(
    "changes",
    [
        {"positive": 3},
        {"positive": [{"feature": 3}]},
        {"negative": [{**figures(3, 0.5), "more": 1}]},
        {"tokens": "many"},
        {"exact": None},
    ],
)
def test_nonsense_from_the_server_is_503(
    client: TestClient, inference: Any, library: Library, changes: dict[str, Any]
) -> None:
    inference.answer = {**ANSWER, **changes}
    assert client.post(URL, json={"sae": "demo", **TEXTS}).status_code == 503


def test_its_failures_and_refusals(client: TestClient, inference: Any, library: Library) -> None:
    inference.status, inference.answer = 422, {"detail": "40000 tokens"}
    refused = client.post(URL, json={"sae": "demo", **TEXTS})
    assert refused.status_code == 422 and refused.json()["detail"] == "40000 tokens"
    inference.status, inference.answer = 503, {"detail": "not enough memory"}
    failed = client.post(URL, json={"sae": "demo", **TEXTS})
    assert failed.status_code == 503 and int(failed.headers["retry-after"]) > 0
