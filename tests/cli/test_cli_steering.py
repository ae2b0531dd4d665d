"""``monosemy steer``: what it sends, what it shows, what goes wrong."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from service.cli import steering
from service.cli.client import Client
from service.cli.main import app

KINGS = {"index": 4, "label": "kings", "mode": "add", "strength": 6.0}
EVENTS = [
    ("prompt", {"text": "Once", "features": [KINGS]}),
    ("token", {"row": "steered", "text": " upon"}),
    ("token", {"row": "plain", "text": " more"}),
    ("token", {"row": "steered", "text": " [red]a king\x1b[0m"}),
]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the service is sent; it answers with ``EVENTS``."""
    bodies: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        if not bodies[-1].get("stream"):
            return httpx.Response(200, json={"steered": {"text": "x"}})
        end = (
            [("end", {"steered": "stop"})] if len(bodies) == 1 else [("error", {"detail": "gone"})]
        )
        text = "".join(f"event: {n}\ndata: {json.dumps(d)}\n\n" for n, d in [*EVENTS, *end])
        return httpx.Response(200, text=text)

    client = Client("http://service.test")
    client._http = httpx.Client(
        base_url="http://service.test/api/v1", transport=httpx.MockTransport(answer)
    )
    monkeypatch.setattr(steering, "connect", lambda: client)
    return bodies


def steer(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["steer", "demo", "Once", *arguments])


def test_beside_are_shown(sent: list[dict[str, Any]]) -> None:
    ended = steer("-f", "4=1.5", "--feature", "7=-2", "--mode", "clamp", "--chat", "--seed", "3")
    assert ended.exit_code == 0, ended.output
    steered, plain = ended.stdout.split("plain")
    assert " upon [red]a king" in steered and "\x1b[0m" not in steered
    assert plain.strip() == "more"
    assert "feature 4 kings: add 6.00" in ended.stderr
    (body,) = sent
    assert body["messages"] == [{"role": "user", "content": "Once"}] and "prompt" not in body
    assert body["features"] == [
        {"index": 4, "strength": 1.5, "mode": "clamp", "unit": "max"},
        {"index": 7, "strength": -2.0, "mode": "clamp", "unit": "max"},
    ]
    broken = steer("-f", "4=1")
    assert broken.exit_code == 1 and "gone" in broken.stderr


def test_machines_get_json(sent: list[dict[str, Any]]) -> None:
    assert json.loads(steer("-f", "4=1", "--json").stdout) == {"steered": {"text": "x"}}
    assert "stream" not in sent[0]


@pytest.mark.parametrize("told", ["4", "4=", "x=1", "4=1e9", "4=nan", "-4=1"])
def test_what_is_no_feature(sent: list[dict[str, Any]], told: str) -> None:
    ended = steer("-f", told)
    assert ended.exit_code != 0 and "INDEX=STRENGTH" in ended.stderr
    assert sent == []
