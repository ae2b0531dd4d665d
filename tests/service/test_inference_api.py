"""POST /inference/activations: what is sent on, what comes back, what can go wrong."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from library_rows import Library, add_explanation
from sqlalchemy import Engine

from service.database.session import transaction

pytestmark = pytest.mark.integration

URL = "/api/v1/inference/activations"
ANSWER = {
    "tokens": [{"id": 2, "text": " king"}, {"id": 4, "text": " sat"}],
    "features": [[{"index": 7, "activation": 3.5}, {"index": 1, "activation": 1.0}], []],
}


@pytest.fixture(scope="module", autouse=True)
def explained(module_engine: Engine, library: Library) -> None:
    with transaction(module_engine) as session:
        add_explanation(session, library, 7, "monarchs", "Rulers.", 0.9)


def test_tokens_come_with_features_and_their_names(
    client: TestClient, inference, library: Library
) -> None:
    inference.answer = ANSWER
    answer = client.post(URL, json={"sae": "demo", "text": " king sat", "top_k": 2})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["sae"]["id"] == str(library.sae)
    assert body["tokens"] == [
        {
            "id": 2,
            "text": " king",
            "features": [
                {"index": 7, "activation": 3.5, "label": "monarchs"},
                {"index": 1, "activation": 1.0, "label": 'token " king" (90 %)'},
            ],
        },
        {"id": 4, "text": " sat", "features": []},
    ]
    path, sent = inference.requests[0]
    assert path == "/activations"
    assert sent == {
        "sae": {
            "id": str(library.sae),
            "path": "saes/demo",
            "site": "blocks.1.hook_resid_post",
        },
        "model": {"name": "tiny", "revision": None, "dtype": "float32", "device": "cpu"},
        "text": " king sat",
        "top_k": 2,
        "features": None,
    }


def test_away_is_503_with_retry_after(client: TestClient, inference) -> None:
    inference.away = True
    answer = client.post(URL, json={"sae": "demo", "text": "x"})
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    assert "cannot be reached" in answer.json()["detail"]


@pytest.mark.parametrize("status", [500, 502, 503])
def test_its_own_failure_is_503(client: TestClient, inference, status: int) -> None:
    inference.status, inference.answer = status, {"detail": "out of memory"}
    answer = client.post(URL, json={"sae": "demo", "text": "x"})
    assert answer.status_code == 503
    assert "out of memory" in answer.json()["detail"]


def test_its_refusal_is_passed_on(client: TestClient, inference) -> None:
    inference.status, inference.answer = 422, {"detail": "9000 tokens do not fit"}
    answer = client.post(URL, json={"sae": "demo", "text": "x"})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "9000 tokens do not fit"


@pytest.mark.parametrize(
    "nonsense", [{}, {"tokens": [{"id": 1, "text": "a"}], "features": []}, {"tokens": 3}]
)
def test_nonsense_from_the_server_is_503(client: TestClient, inference, nonsense) -> None:
    inference.answer = nonsense
    assert client.post(URL, json={"sae": "demo", "text": "x"}).status_code == 503
