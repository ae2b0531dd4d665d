"""POST /inference/activations: what is sent on, what comes back, what can go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, delete

from service.database.session import transaction
from service.database.tables import Feature, Sae
from tests.support.library_rows import Library, add_explanation, add_library, make_feature

pytestmark = pytest.mark.integration

URL = "/api/v1/inference/activations"
ANSWER = {
    "tokens": [{"id": 2, "text": " king"}, {"id": 4, "text": " sat"}],
    "saes": [{"features": [[[7, 3.5], [1, 1.0]], []], "chosen": None}],
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
                {"sae": 0, "index": 7, "activation": 3.5, "label": "monarchs"},
                {"sae": 0, "index": 1, "activation": 1.0, "label": 'token " king" (90 %)'},
            ],
        },
        {"id": 4, "text": " sat", "features": []},
    ]
    assert body["saes"] == [body["sae"]]
    assert body["chosen"] == []
    path, sent = inference.requests[0]
    assert path == "/activations"
    assert sent == {
        "saes": [
            {
                "id": str(library.sae),
                "path": "saes/demo",
                "site": "blocks.1.hook_resid_post",
                "recorded": None,
                "features": None,
                "only": True,
            }
        ],
        "model": {"name": "tiny", "revision": None, "dtype": "float32", "device": "cpu"},
        "text": " king sat",
        "messages": None,
        "generation_prompt": False,
        "top_k": 2,
        "unexplained": False,
        "clip": False,
    }


def test_what_is_unexplained_is_told_where_it_is_asked_for(
    client: TestClient, inference, library: Library
) -> None:
    saes = [{**ANSWER["saes"][0], "unexplained": [0.25, 1.0]}]
    inference.answer = {**ANSWER, "saes": saes}
    asked = {"sae": "demo", "text": " king sat", "unexplained": True}
    assert client.post(URL, json=asked).json()["unexplained"] == [[0.25, 1.0]]
    assert inference.requests[-1][1]["unexplained"] is True
    inference.answer = ANSWER
    assert client.post(URL, json=asked).json()["unexplained"] == [None]
    asked["unexplained"] = False
    assert client.post(URL, json=asked).json()["unexplained"] is None


def test_away_is_503_with_retry_after(client: TestClient, inference) -> None:
    inference.away = True
    answer = client.post(URL, json={"sae": "demo", "text": "x"})
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    assert "cannot be reached" in answer.json()["detail"]


@pytest.mark.parametrize(("status", "answered"), [(500, 502), (502, 503), (503, 503)])
def test_its_own_failure_comes_with_the_reason(
    client: TestClient, inference, status: int, answered: int
) -> None:
    inference.status, inference.answer = status, {"detail": "KeyError: 'x' at a.py:3"}
    answer = client.post(URL, json={"sae": "demo", "text": "x"})
    assert answer.status_code == answered
    assert "KeyError: 'x'" in answer.json()["detail"]
    # Another try may help where it is busy, not where it came upon a fault of its own.
    assert ("retry-after" in answer.headers) == (answered == 503)


def test_its_refusal_is_passed_on(client: TestClient, inference) -> None:
    inference.status, inference.answer = 422, {"detail": "9000 tokens do not fit"}
    answer = client.post(URL, json={"sae": "demo", "text": "x"})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "9000 tokens do not fit"


@pytest.mark.parametrize(
    "nonsense",
    [
        {},
        {"tokens": 3},
        {**ANSWER, "saes": []},
        {**ANSWER, "saes": ANSWER["saes"] * 2},
        {**ANSWER, "saes": [{"features": [[]], "chosen": None}]},
        {**ANSWER, "saes": [{"features": [[[7]], []], "chosen": None}]},
        {**ANSWER, "saes": [{"features": [[], []], "chosen": [[1.0, 2.0]]}]},
        {**ANSWER, "saes": [{"features": [[], []], "chosen": None, "unexplained": [0.5]}]},
    ],
)
def test_nonsense_from_the_server_is_503(client: TestClient, inference, nonsense) -> None:
    inference.answer = nonsense
    assert client.post(URL, json={"sae": "demo", "text": "x"}).status_code == 503


@pytest.fixture
def sibling(module_engine: Engine, library: Library) -> Iterator[str]:
    """Another SAE of the same host model, with a feature that is explained."""
    with transaction(module_engine) as session:
        sae = Sae(
            name="sibling",
            model_id=library.model,
            site="blocks.2.hook_resid_post",
            architecture="topk",
            d_in=32,
            d_sae=20,
            path="saes/sibling",
            config={"k": 4},
            metrics={},
            provenance={},
        )
        session.add(sae)
        session.flush()
        session.add(make_feature(sae.id, 3, 20))
    yield "sibling"
    with transaction(module_engine) as session:
        session.execute(delete(Feature).where(Feature.sae_id == sae.id))
        session.execute(delete(Sae).where(Sae.id == sae.id))


def test_several_saes_read_one_text(client: TestClient, inference, sibling: str) -> None:
    inference.answer = {
        "tokens": ANSWER["tokens"],
        "saes": [
            {"features": [[[7, 3.5]], []], "chosen": [[3.5, 0.0], [0.0, 0.0]]},
            {"features": [[[3, 2.5]], [[19, 1.5]]], "chosen": None},
        ],
    }
    chat = [{"role": "user", "content": "king sat"}]
    saes = [{"sae": "demo", "features": [7, 9]}, {"sae": sibling}]
    asked = {"saes": saes, "messages": chat, "generation_prompt": True}
    answer = client.post(URL, json=asked)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [each["name"] for each in body["saes"]] == ["demo", "sibling"]
    assert body["sae"] == body["saes"][0]
    shown = [
        [(f["sae"], f["index"], f["activation"], f["label"]) for f in token["features"]]
        for token in body["tokens"]
    ]
    token_label = 'token " king" (90 %)'
    assert shown == [[(0, 7, 3.5, "monarchs"), (1, 3, 2.5, token_label)], [(1, 19, 1.5, None)]]
    assert body["chosen"] == [
        {"sae": 0, "index": 7, "label": "monarchs", "activations": [3.5, 0.0]},
        {"sae": 0, "index": 9, "label": token_label, "activations": [0.0, 0.0]},
    ]
    _, sent = inference.requests[0]
    assert [(each["site"], each["features"]) for each in sent["saes"]] == [
        ("blocks.1.hook_resid_post", [7, 9]),
        ("blocks.2.hook_resid_post", None),
    ]
    assert sent["messages"] == chat and sent["text"] is None and sent["generation_prompt"] is True


@pytest.mark.parametrize(
    ("asked", "path", "message"),
    [
        ({"saes": [{"sae": "demo", "features": [60]}]}, "saes.0.features", "0 to 59"),
        ({"saes": [{"sae": "demo"}, {"sae": "far"}]}, "saes.1.sae", "not 'tiny-demo'"),
        ({"sae": "demo", "saes": [{"sae": "demo"}]}, "", "one of them"),
        ({}, "", "one of them"),
        ({"saes": [{"sae": "demo"}], "features": [1]}, "", "beside each"),
        ({"saes": []}, "saes", "at least 1"),
        ({"saes": [{"sae": "demo"}] * 9}, "saes", "at most 8"),
        ({"sae": "demo", "top_k": True}, "top_k", "a number is expected"),
        ({"sae": "demo", "text": None}, "", "one of them"),
        ({"sae": "demo", "messages": [{"role": "user", "content": "x"}]}, "", "one of them"),
    ],
)
def test_what_does_not_fit_is_named(
    client: TestClient, inference, far: str, asked: dict[str, Any], path: str, message: str
) -> None:
    answer = client.post(URL, json={"text": "x", **asked})
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert error["path"] == path and message in error["message"]
    assert inference.requests == []


@pytest.fixture(scope="module")
def far(module_engine: Engine, library: Library) -> str:
    """An SAE of another host model."""
    with transaction(module_engine) as session:
        return add_library(session, "far", 4).name
