"""Halves of surrogate pairs and NUL in every text of every body: refused or stored, never a 500."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.support.library_rows import Library

API = "/api/v1"
FEATURE = f"{API}/saes/demo/features/3"

_BODIES: list[tuple[str, str, Any]] = [
    ("post", f"{API}/inference/activations", {"sae": "demo", "text": "x"}),
    ("post", f"{API}/inference/activations",
     {"sae": "demo", "messages": [{"role": "user", "content": "x"}]}),
    ("post", f"{API}/inference/read", {"saes": [{"sae": "demo"}], "text": "x"}),
    ("post", f"{API}/inference/tokenize", {"model": "tiny", "text": "x"}),
    ("post", f"{API}/inference/contrast", {"sae": "demo", "positive": ["x", "y"],
                                           "negative": ["z", "w"], "rerank": {"query": "x"}}),
    ("post", f"{API}/inference/steer", {"sae": "demo", "prompt": "x",
                                        "features": [{"index": 3, "strength": 1.0}]}),
    ("post", f"{FEATURE}/explanations", {"label": "x", "text": "y", "author": "z"}),
    ("post", f"{FEATURE}/tags", {"tags": ["x"]}),
    ("post", f"{API}/lists", {"name": "x", "description": "y"}),
    ("post", f"{API}/lists/absent/entries",
     {"entries": [{"sae": "demo", "feature": 1, "note": "x"}]}),
    ("post", f"{API}/keys", {"name": "x", "scopes": ["read"]}),
    ("post", f"{API}/runs", {"kind": "train", "name": "x", "text": {"source": "y.jsonl",
                             "column": "z"}, "model": {"name": "m", "revision": "r"}}),
    ("post", f"{API}/runs", {"kind": "explain", "sae": "demo", "explanation": {"judge":
                             {"model": "x"}}}),
]  # fmt: skip


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the strings of a body are."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from leaves(item, (*path, number))


def changed(body: Any, path: tuple[Any, ...], text: str) -> Any:
    body = copy.deepcopy(body)
    place = body
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = text
    return body


@pytest.mark.parametrize("text", ["half \ud83d", "\udc00\ud800", "nul \x00"])
@pytest.mark.parametrize(("method", "url", "body"), _BODIES)
def test_every_text_of_a_body(
    client: TestClient, library: Library, method: str, url: str, body: Any, text: str
) -> None:
    places = list(leaves(body))
    assert places
    for path in places:
        content = json.dumps(changed(body, path, text))  # written with escapes
        answer = client.request(
            method, url, content=content, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code < 500 or answer.status_code == 503, (path, answer.text)
        if answer.status_code == 503:  # the played server has no such answer, but was asked
            assert "\x00" in text and "server's answer is not" in answer.json()["detail"], path
        if "\x00" not in text:
            assert answer.status_code in (404, 422), (path, answer.text)
    key = json.dumps({text: 1})
    answer = client.request(method, url, content=key, headers={"Content-Type": "application/json"})
    assert answer.status_code < 500, answer.text


@pytest.mark.parametrize("query", ["%ED%A0%80", "half%ED%A0%BD", "%FF", "%00"])
@pytest.mark.parametrize(
    "url",
    ["/search?q={}", "/saes/demo/features?q={}", "/saes/demo/features?tag={}", "/saes/{}",
     "/lists/{}", "/runs?cursor={}", "/explanations?q={}"],
)  # fmt: skip
def test_addresses_that_are_no_utf8(
    client: TestClient, library: Library, url: str, query: str
) -> None:
    assert client.get(API + url.format(query)).status_code < 500
