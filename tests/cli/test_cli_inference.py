"""``monosemy activations``, ``tokenize`` and ``contrast``: what is sent, what is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from service.cli import inference
from service.cli.client import Client
from service.cli.main import app

FIRING = [
    {"sae": 0, "index": 7, "activation": 3.5, "label": "[red]kings"},
    {"sae": 1, "index": 3, "activation": 2.25, "label": None},
]
FEATURE = {
    "index": 12, "label": "whales", "rank": 2, "p_value": 0.05, "auroc": 0.875,
    "standardised": 1.5, "mean_positive": 2.0, "mean_negative": 0.5, "share_positive": 1.0,
    "share_negative": 0.25, "similarity": 0.75, "rank_score": 0.03,
}  # fmt: skip
ANSWERS: dict[str, dict[str, Any]] = {
    "activations": {
        "saes": [{"name": "demo"}, {"name": "other"}],
        "tokens": [
            {"id": 2, "text": " king", "features": FIRING},
            {"id": 4, "text": "\n", "features": []},
        ],
        "chosen": [{"sae": 0, "index": 7, "label": "kings", "activations": [3.5, 0.0]}],
    },
    "tokenize": {
        "model": {"name": "tiny"},
        "tokens": [{"id": 2, "text": " king"}, {"id": 4, "text": "\x1b"}],
        "bos": {"id": 0, "text": "<s>"},
    },
    "contrast": {
        "n_positive": 2, "n_negative": 1, "relabellings": 3, "exact": True, "reranked": False,
        "reason": "no embedder", "positive": [FEATURE],
        "negative": [{**FEATURE, "index": 40, "label": None, "auroc": 0.1, "similarity": None}],
    },
}  # fmt: skip


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    bodies: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json=ANSWERS[request.url.path.rpartition("/")[2]])

    client = Client("http://service.test", transport=httpx.MockTransport(answer))
    monkeypatch.setattr(inference, "connect", lambda: client)
    return bodies


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def test_activations_of_several_saes(sent: list[dict[str, Any]]) -> None:
    ended = run("activations", "demo", "king", "--also", "other", "--top", "2", "--chat")
    assert ended.exit_code == 0, ended.output
    assert "strongest of demo" in ended.stdout and "strongest of other" in ended.stdout
    assert "7 (3.5) [red]kings" in ended.stdout and "3 (2.2)" in ended.stdout
    assert "' king'" in ended.stdout and "'\\n'" in ended.stdout
    assert sent == [
        {
            "messages": [{"role": "user", "content": "king"}],
            "top_k": 2,
            "saes": [{"sae": "demo"}, {"sae": "other"}],
        }
    ]


def test_the_unexplained_share_is_a_column(
    sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {**ANSWERS["activations"], "unexplained": [[0.25] * 2, None]}
    monkeypatch.setitem(ANSWERS, "activations", answer)
    ended = run("activations", "demo", "king", "--also", "other", "--unexplained")
    assert ended.exit_code == 0, ended.output
    assert sent[0]["unexplained"] is True and "25%" in ended.stdout
    assert "unexplained by demo" in " ".join(ended.stdout.split())


def test_activations_of_chosen_features(sent: list[dict[str, Any]]) -> None:
    ended = run("activations", "demo", "king", "-f", "7")
    assert ended.exit_code == 0, ended.output
    assert "7 kings" in ended.stdout and "3.50" in ended.stdout and "0.00" not in ended.stdout
    assert sent == [{"text": "king", "top_k": 3, "sae": "demo", "features": [7]}]
    assert run("activations", "demo", "king", "-f", "7", "--also", "other").exit_code == 2


def test_tokens(sent: list[dict[str, Any]]) -> None:
    ended = run("tokenize", "demo", "king")
    assert ended.exit_code == 0, ended.output
    assert "' king'" in ended.stdout and "\x1b" not in ended.stdout
    assert "2 tokens of tiny, after '<s>' (0)" in ended.stderr
    run("tokenize", "tiny", "king", "--model", "--chat")
    assert sent == [
        {"sae": "demo", "text": "king"},
        {"model": "tiny", "messages": [{"role": "user", "content": "king"}]},
    ]


def test_a_contrast_of_arguments_and_files(sent: list[dict[str, Any]], tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("two whales\n\nnaïve whale\n", encoding="utf-8")
    ended = run(
        *("contrast", "demo", "-p", "a whale", "--positive-file", str(file), "-n", "a clock"),
        *("--describe", "sea animals", "--statistic", "share", "--pooling", "max", "--top", "4"),
    )
    assert ended.exit_code == 0, ended.output
    positive, negative = ended.stdout.split("more on the negative texts (n = 1)")
    for shown in ("12", "whales", "0.88", "+1.50", "100% / 25%", "0.050", "0.75"):
        assert shown in positive
    assert "40" in negative and "0.10" in negative
    assert "over 3 labellings (all there are)" in ended.stderr
    assert "Not reranked: no embedder" in ended.stderr
    assert sent == [
        {
            "sae": "demo",
            "positive": ["a whale", "two whales", "naïve whale"],
            "negative": ["a clock"],
            "chat": False,
            "statistic": "share",
            "pooling": "max",
            "top_k": 4,
            "rerank": {"description": "sea animals"},
        }
    ]
    file.write_bytes(b"\xff")
    refused = run("contrast", "demo", "--positive-file", str(file), "-n", "x")
    assert refused.exit_code == 2 and "not UTF-8" in refused.output


@pytest.mark.parametrize("command", ["activations", "tokenize", "contrast"])
def test_json(sent: list[dict[str, Any]], command: str) -> None:
    texts = ["-p", "a", "-n", "b"] if command == "contrast" else ["a"]
    ended = run(command, "demo", *texts, "--json")
    assert json.loads(ended.stdout) == ANSWERS[command]
