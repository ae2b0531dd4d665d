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
ID = "7c6bd7d2-7b87-4f2f-8c3b-0f6ff6e1b9f4"
MODEL = {
    "id": ID,
    "name": "m",
    "architecture": None,
    "n_layers": 1,
    "d_model": 2,
    "d_vocab": 3,
    "no_generation": None,
}
HOOK = {"host": "host", "site": "blocks.1.hook_resid_post", "width": 2}
SAE = {
    **{"id": ID, "name": "demo", "model": MODEL, "site": HOOK["site"]},
    "hooks": {"reads": [HOOK], "writes": [HOOK]},
    **{
        "architecture": "topk",
        "basis": None,
        "set": None,
        "d_in": 2,
        "d_sae": 8,
        "metrics": {},
        "index": None,
    },
    "created_at": "2026-01-01T00:00:00Z",
    "path": "saes/1",
    "features": None,
}


def token(row: str, text: str) -> tuple[str, dict[str, Any]]:
    return "token", {"row": row, "text": text, "id": 5, "logprob": -0.5, "top": [], "last": False}


EVENTS = [
    ("prompt", {"text": "Once", "tokens": 1, "sae": SAE, "features": [KINGS]}),
    token("steered", " upon"),
    token("plain", " more"),
    token("steered", " [red]a king\x1b[0m"),
]
TEXT = {"text": "x", "tokens": [], "ended": "stop"}
WHOLE = {
    "sae": SAE,
    "features": [KINGS],
    "prompt": "Once",
    "pushed": 1,
    "concepts": [],
    "steered": TEXT,
    "plain": None,
}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the service is sent; it answers with ``EVENTS``."""
    bodies: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        if not bodies[-1].get("stream"):
            return httpx.Response(200, json=WHOLE)
        end = (
            [("end", {"steered": "stop"})] if len(bodies) == 1 else [("error", {"detail": "gone"})]
        )
        text = "".join(f"event: {n}\ndata: {json.dumps(d)}\n\n" for n, d in [*EVENTS, *end])
        return httpx.Response(200, text=text)

    client = Client("http://service.test", transport=httpx.MockTransport(answer))
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
    assert body["messages"] == [{"role": "user", "content": "Once"}] and body["prompt"] is None
    assert body["features"] == [
        {"index": 4, "strength": 1.5, "mode": "clamp", "unit": "max"},
        {"index": 7, "strength": -2.0, "mode": "clamp", "unit": "max"},
    ]
    broken = steer("-f", "4=1")
    assert broken.exit_code == 3 and "gone" in broken.stderr


def test_machines_get_json(sent: list[dict[str, Any]]) -> None:
    assert json.loads(steer("-f", "4=1", "--json").stdout) == WHOLE
    assert sent[0]["stream"] is False


@pytest.mark.parametrize("term", ["4", "4=", "x=1", "4=1e9", "4=nan", "-4=1"])
def test_what_is_no_feature(sent: list[dict[str, Any]], term: str) -> None:
    ended = steer("-f", term)
    assert ended.exit_code != 0 and "INDEX=STRENGTH" in ended.stderr
    assert sent == []


def test_where_is_pushed(sent: list[dict[str, Any]]) -> None:
    """What is asked for, and what the service is sent; nothing new where nothing is said."""
    cases: list[tuple[list[str], dict[str, Any]]] = [
        ([], {"where": "all", "special_tokens": False}),
        (["--where", "new"], {"where": "new", "special_tokens": False}),
        (["--where", "special"], {"where": "special", "special_tokens": False}),
        (["--special-tokens"], {"where": "all", "special_tokens": True}),
        (["--range", "-3:-1"], {"where": "range", "range": {"first": -3, "last": -1}}),
        (
            ["--at-text", " the", "--at-kind", "newline", "--at-id", "3", "--at-part", "q"],
            {
                "where": "tokens",
                "tokens": {"texts": [" the"], "ids": [3], "contains": ["q"], "kinds": ["newline"]},
            },
        ),
    ]
    names = ("where", "special_tokens", "range", "tokens")
    for words, expected in cases:
        assert steer("-f", "4=1", "--json", *words).exit_code == 0, words
        body = {name: sent[-1][name] for name in names if name in sent[-1]}
        assert body == {"special_tokens": False, **expected}, words


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--range", "3"], "FIRST:LAST"),
        (["--range", "a:b"], "FIRST:LAST"),
        (["--range", "5:2"], "before first"),
        (["--range", "1:2", "--where", "new"], "Say where once"),
        (["--range", "1:2", "--at-text", "x"], "Say where once"),
        (["--where", "special", "--special-tokens"], "--special-tokens goes with"),
        (["--where", "range"], "--where"),
        (["--at-kind", "verb"], "tokens.kinds.0"),
    ],
)
def test_where_that_makes_no_sense(sent: list[dict[str, Any]], words: list[str], told: str) -> None:
    ended = steer("-f", "4=1", *words)
    assert ended.exit_code == 2 and told in ended.stderr
    assert sent == []


def test_concepts_are_sent_and_what_came_of_them_is_told(
    sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {"name": "kings", "flagged": True, "score": 0.75, "threshold": 0.25}
    name, begun = EVENTS[0]
    first = (name, {**begun, "concepts": [held]})
    monkeypatch.setitem(globals(), "EVENTS", [first, *EVENTS[1:]])
    ended = steer("--concept", "kings", "--concept", "queens")
    assert ended.exit_code == 0, ended.output
    assert sent[0]["concepts"] == ["kings", "queens"] and sent[0]["features"] == []
    assert "concept kings: flagged, deactivated (score 0.75, threshold 0.25)" in ended.stderr
    assert "--concept NAME" in steer().stderr and steer().exit_code == 2
