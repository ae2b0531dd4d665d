"""``monosemy attention``: what is sent, what is shown."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from service.cli import attention
from service.cli.client import Client
from service.cli.main import app
from tests.support.lens_rows import ANSWER


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    bodies: list[dict[str, Any]] = []
    saes = [{"name": "heads"}, {"name": "stream"}]
    features = [{"label": "[red]kings", "parts": None, **each} for each in ANSWER["features"]]
    whole = filled({**ANSWER, "saes": saes, "features": features})

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json=whole)

    client = Client("http://service.test", transport=httpx.MockTransport(answer))
    monkeypatch.setattr(attention, "connect", lambda: client)
    return bodies


def filled(value: Any) -> Any:
    """With the nulls that the API writes."""
    if isinstance(value, list):
        return [filled(each) for each in value]
    if not isinstance(value, dict):
        return value
    nulls = ("token", "layer", "sae", "feature", "label", "activation", "count", "parts")
    whole = {name: filled(each) for name, each in value.items()}
    return {**dict.fromkeys(nulls), **whole} if "kind" in value else whole


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["attention", *arguments])


def test_heads_sources_steps_and_pairs_are_shown(sent: list[dict[str, Any]]) -> None:
    asked = ("--token", "2", "--depth", "2", "--residual", "stream", "--through", "below")
    ended = run("heads", "king sat.", *asked, "--head", "1", "--source", "0")
    assert ended.exit_code == 0, ended.output
    shown = " ".join(ended.stdout.split())
    assert "7 [red]kings" in shown and "2 '.'" in shown
    assert "0 ' king' +1.50" in shown and "-1 '<s>' +0.50" in shown
    assert "+1.000 │ stream 3" in shown and "mlp of blocks.1" in shown and "2 other parts" in shown
    assert "looks at 0 ' king': 75%" in shown
    assert "average of what it looks at 0.500" in ended.output
    assert "all other pairs │ │ +0.375" in shown
    assert "bias │ features │ +0.250 │ +0.500 │ 38%" in shown
    (body,) = sent
    assert body["tokens"] == [2] and body["pair"] == {"head": 1, "token": 2, "source": 0}
    assert body["residual_sae"] == "stream" and body["through"] == ["below"]


def test_json_is_the_answer(sent: list[dict[str, Any]]) -> None:
    ended = run("heads", "king sat.", "--chat", "--json")
    assert json.loads(ended.stdout)["heads"] == 2
    assert sent[0]["messages"] == [{"role": "user", "content": "king sat."}]
    assert sent[0].get("pair") is None and sent[0].get("tokens") is None


def test_a_head_needs_a_source(sent: list[dict[str, Any]]) -> None:
    ended = run("heads", "king sat.", "--head", "1")
    assert ended.exit_code == 2 and "go together" in ended.output
    assert sent == []
