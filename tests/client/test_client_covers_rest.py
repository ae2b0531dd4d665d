"""Whatever REST gives by GET a method of the client gives, or it is named here with the reason."""

from __future__ import annotations

import inspect
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from monosemy.address import PREFIX
from monosemy.client import Client
from monosemy.errors import MonosemyError
from service.app import create_app
from service.settings import Settings
from tests.support.every_route import Address, every_route

WITHOUT = {
    "/healthz": "asked by what keeps the server running, not by its users",
    "/readyz": "the same",
    "/metrics": "text for Prometheus",
    "/openapi.json": "what clients are generated from; this one is written",
    "/docs": "a page",
}
"""Templates of addresses without a method, each with the reason."""

NOWHERE = uuid.UUID(int=0)
GIVEN: dict[str, Any] = {
    **dict.fromkeys(("sae", "name", "reference", "q", "tag", "text", "prompt", "source"), "some"),
    **dict.fromkeys(("run", "explanation", "sitting", "key", "score"), NOWHERE),
    **dict.fromkeys(("comparison", "task", "circuit", "graph", "concept", "result"), NOWHERE),
    **dict.fromkeys(("index", "number", "priority", "node"), 3),
    **{name: ["some"] for name in ("positive", "negative", "tags", "saes", "others")},
    **{"names": ["density"], "features": [("some", 3)], "answer": True, "value": 1},
    **{"scorer": "detection", "judgements": [{"activating": True, "answer": True}] * 8},
    **{"spec": {"kind": "train"}, "to": 0, "file": __file__},
    "edits": [{"node": 3}],
    **{"target": 3, "layer": 0, "head": 0, "token": 1},
}
"""A value for each required parameter of a method, by its name."""


def methods_of(client: Client) -> Iterator[tuple[str, Any]]:
    """The public methods of the client's rooms, and those of its own."""
    inherited = {name for base in Client.__mro__[1:] for name in vars(base)}
    for name, value in [*vars(client).items(), *inspect.getmembers(client, inspect.ismethod)]:
        if name.startswith("_") or name in inherited:
            continue
        if inspect.ismethod(value):
            yield name, value
        elif type(value).__module__.startswith("monosemy.client"):
            for own, method in inspect.getmembers(value, inspect.ismethod):
                if not own.startswith("_"):
                    yield f"{name}.{own}", method


def asked_by(method: Any, folder: Path) -> None:
    """Calls it with what it must be given, and without an index where that may be None."""
    parameters = inspect.signature(method).parameters
    given = {
        name: folder if name == "folder" else GIVEN[name]
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    if "source" in given and parameters["source"].annotation == "int":
        given["source"] = 0
    if "to" in given and parameters["to"].annotation != "int":
        given["to"] = folder / "sent"
    if "None" in str(parameters["index"].annotation if "index" in parameters else ""):
        _called(method, {**given, "index": None})
    _called(method, given)


def _called(method: Any, given: dict[str, Any]) -> None:
    try:
        made = method(**given)
        if hasattr(made, "__next__"):
            next(made)
    except MonosemyError:
        pass  # nothing is there; what is not even sent is missed below


def test_every_get_has_a_method_or_says_why_not(tmp_path: Path) -> None:
    asked: set[str] = set()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            asked.add(request.url.path)
        return httpx.Response(404, json={"title": "Not found", "status": 404, "detail": "none"})

    client = Client("http://service.test", patience=0, transport=httpx.MockTransport(answer))
    for name, method in methods_of(client):
        try:
            asked_by(method, tmp_path)
        except Exception as error:
            raise AssertionError(f"{name} could not be called: {error}") from error

    def has(address: Address) -> bool:
        form = re.sub(r"\\{[^}]+\\}", "[^/]+", re.escape(address.full))
        return any(re.fullmatch(form, path) for path in asked)

    reading = [
        address
        for address in every_route(create_app(Settings(home=tmp_path)))
        if address.method == "GET" and address.full.startswith(PREFIX)
    ]
    lacking = {address.template for address in reading if not has(address)}
    assert lacking == set(WITHOUT)
