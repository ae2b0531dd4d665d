"""Where the client, the CLI and the settings find the service: by one rule."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

import monosemy
from monosemy.client import ApiError, InvalidRequest, ServiceUnreachable
from service.cli.connect import connect
from service.cli.main import app
from service.settings import Settings

STACK, NAMED = "http://127.0.0.1:1", "http://127.0.0.1:2"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MONOSEMY_URL", "MONOSEMY_PORT", "MONOSEMY_PART"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MONOSEMY_HOME", str(tmp_path))
    return tmp_path


def everywhere() -> set[str]:
    return {monosemy.Client().url, connect().url, Settings().url}


def test_one_rule(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert everywhere() == {"http://127.0.0.1:8420"}
    monkeypatch.setenv("MONOSEMY_PORT", "9000")
    assert everywhere() == {"http://127.0.0.1:9000"}
    (home / "stack.json").write_text(json.dumps({"url": STACK}))
    assert everywhere() == {STACK}
    monkeypatch.setenv("MONOSEMY_URL", NAMED)
    assert everywhere() == {NAMED}
    assert monosemy.Client("http://127.0.0.1:3").url == "http://127.0.0.1:3"


@pytest.mark.parametrize("damaged", ["", "[]", "{}", '{"url": 3}', "\0"])
def test_a_damaged_stack_file_is_none(home: Path, damaged: str) -> None:
    (home / "stack.json").write_text(damaged)
    assert everywhere() == {"http://127.0.0.1:8420"}


@pytest.mark.parametrize("ending", ["", "/", "/api/v1", "/api/v1/"])
def test_an_address_may_end_in_the_prefix(monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setenv("MONOSEMY_URL", NAMED + ending)
    assert everywhere() == {NAMED}
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json={})

    monosemy.Client(NAMED + ending, transport=httpx.MockTransport(answer)).get("/saes")
    assert asked == [f"{NAMED}/api/v1/saes"]


def test_an_error_says_where_the_address_comes_from(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "stack.json").write_text(json.dumps({"url": STACK}))
    with pytest.raises(ServiceUnreachable, match=f"{STACK} .* comes from {home}/stack.json"):
        monosemy.Client(patience=0).get("/saes")
    ended = CliRunner().invoke(app, ["sae", "list"])
    assert ended.exit_code == 3 and f"comes from {home}/stack.json" in ended.stderr
    monkeypatch.setenv("MONOSEMY_URL", NAMED)
    with pytest.raises(ServiceUnreachable, match="comes from MONOSEMY_URL"):
        monosemy.Client(patience=0).get("/saes")
    monkeypatch.delenv("MONOSEMY_URL")
    (home / "stack.json").unlink()
    monkeypatch.setenv("MONOSEMY_PORT", "1")
    with pytest.raises(ServiceUnreachable, match=r"127.0.0.1:1 .* default .* no stack in"):
        monosemy.Client(patience=0).get("/saes")


@pytest.mark.parametrize("wrong", ["nonsense", "ftp://host", "http://", "http://[::", "host:80"])
def test_what_is_no_address_is_said_at_once(wrong: str) -> None:
    with pytest.raises(InvalidRequest, match="not an address"):
        monosemy.Client(wrong)


def test_a_closed_client() -> None:
    client = monosemy.Client(NAMED)
    client.close()
    for call in (lambda: client.get("/saes"), lambda: client.runs.submit({"kind": "train"})):
        with pytest.raises(ApiError, match="closed"):
            call()
