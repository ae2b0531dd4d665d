"""Arguments of another type: named before anything is sent, never a raw exception."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

import monosemy
from monosemy.errors import SpecError

ID = "7c6bd7d2-7b87-4f2f-8c3b-0f6ff6e1b9f4"


def never(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"{request.method} {request.url} was sent")


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda c: c.runs.submit("kind: train"), "spec"),
        (lambda c: c.runs.submit(None), "spec"),
        (lambda c: c.runs.submit([{"kind": "train"}]), "spec"),
        (lambda c: c.runs.parse(3), "spec"),
        (lambda c: list(c.features.list("demo", limit="x")), "limit"),
        (lambda c: list(c.runs.list(limit=2.5)), "limit"),
        (lambda c: list(c.saes.list(limit=True)), "limit"),
        (lambda c: c.lists.add("mine", "demo"), "features"),
        (lambda c: c.lists.add("mine", None), "features"),
        (lambda c: c.lists.remove("mine", [3]), "features"),
        (lambda c: c.lists.move("mine", [("demo", 1, 2)], 0), "features"),
        (lambda c: c.lists.move("mine", {"sae": "demo", "feature": 1}, 0), "features"),
        (lambda c: c.tags.add("demo", 1, "court"), "tags"),
        (lambda c: c.tags.add("demo", 1, None), "tags"),
        (lambda c: c.search("kings", sae=3), "sae"),
        (lambda c: c.search("kings", sae=[3]), "sae"),
        (lambda c: c.features.columns("demo", "density"), "names"),
        (lambda c: c.inference.read("demo", "text"), "saes"),
        (lambda c: c.inference.read(3, "text"), "saes"),
        (lambda c: c.inference.activations(3, "text"), "sae"),
        (lambda c: c.inference.read(["demo"], "text", follow=[[1], [2]]), "follow"),
        (lambda c: c.inference.read(["demo"], "text", follow=[3]), "follow"),
        (lambda c: list(c.features.list("demo", indices=3)), "indices"),
        (lambda c: c.exports.activations("demo", "x.csv", features=["a"]), "features"),
        (lambda c: c.inference.steered("demo", "text", features=3), "features"),
        (lambda c: c.scores.add(ID, "detection", "x", 3), "judgements"),
    ],
)
def test_it_is_named(call: Callable[[Any], Any], argument: str) -> None:
    client = monosemy.Client("http://service.test", transport=httpx.MockTransport(never))
    with pytest.raises(SpecError, match="it takes ") as caught:
        call(client)
    assert [path for path, _ in caught.value.problems] == [argument]
