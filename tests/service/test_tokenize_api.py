"""POST /inference/tokenize: whose tokenizer, what comes back, what goes wrong."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.support.library_rows import Library

pytestmark = pytest.mark.integration

URL = "/api/v1/inference/tokenize"
TOKENS = [{"id": 2, "text": " king"}, {"id": 4, "text": " sat"}]
BOS = {"id": 0, "text": "<s>"}
SPEC = {"name": "tiny", "revision": None, "dtype": "float32", "device": "cpu"}


@pytest.mark.parametrize("by_id", [False, True])
def test_by_model(client: TestClient, inference: Any, library: Library, by_id: bool) -> None:
    inference.answer = {"tokens": TOKENS, "bos": None}
    name = str(library.model) if by_id else "tiny-demo"
    answer = client.post(URL, json={"model": name, "text": " king sat"})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["tokens"] == TOKENS and body["bos"] is None
    assert body["model"]["id"] == str(library.model)
    assert inference.requests == [
        (
            "/tokenize",
            {
                "model": SPEC,
                "sae": None,
                "text": " king sat",
                "messages": None,
                "generation_prompt": False,
            },
        )
    ]


def test_by_sae_with_its_bos(client: TestClient, inference: Any, library: Library) -> None:
    inference.answer = {"tokens": TOKENS, "bos": BOS}
    chat = [{"role": "user", "content": "king"}]
    answer = client.post(URL, json={"sae": "demo", "messages": chat, "generation_prompt": True})
    assert answer.status_code == 200, answer.text
    assert answer.json()["bos"] == BOS
    (_, sent), *_ = inference.requests
    assert sent["sae"]["path"] == "saes/demo" and sent["model"] == SPEC
    assert sent["messages"] == chat and sent["generation_prompt"] is True


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"model": "nothing", "text": "x"}, 404),
        ({"sae": "nothing", "text": "x"}, 404),
        ({"model": "00000000-0000-0000-0000-000000000000", "text": "x"}, 404),
        ({"text": "x"}, 422),
        ({"model": "tiny-demo", "sae": "demo", "text": "x"}, 422),
        ({"model": "tiny-demo"}, 422),
        ({"model": "tiny-demo", "text": ""}, 422),
        ({"model": "tiny-demo", "text": "x" * 20_001}, 422),
        ({"model": "a\u0000b", "text": "x"}, 422),
        ({"model": "tiny-demo", "messages": []}, 422),
        ({"model": "tiny-demo", "messages": [{"role": "User!", "content": "x"}]}, 422),
    ],
)
def test_what_cannot_be_served(
    client: TestClient, inference: Any, library: Library, asked: dict[str, Any], status: int
) -> None:
    answer = client.post(URL, json=asked)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert inference.requests == []


@pytest.mark.parametrize("nonsense", [{}, {"tokens": 3, "bos": None}, {"tokens": TOKENS}])
def test_nonsense_from_the_server_is_503(
    client: TestClient, inference: Any, library: Library, nonsense: dict[str, Any]
) -> None:
    inference.answer = nonsense
    assert client.post(URL, json={"sae": "demo", "text": "x"}).status_code == 503
