"""Wrong settings and hostile text end in words, never in a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import output, stack_commands
from service.cli.main import app


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MONOSEMY_HOME", str(tmp_path))
    monkeypatch.delenv("MONOSEMY_DATABASE_URL", raising=False)


@pytest.mark.parametrize(
    ("name", "value", "arguments", "code", "words"),
    [
        ("URL", "http://[::", ["run", "list"], 2, "MONOSEMY_URL"),
        ("URL", "nonsense", ["run", "list"], 2, "not an address"),
        ("PORT", "many", ["run", "list"], 2, "MONOSEMY_PORT"),
        ("PORT", "70000", ["serve"], 2, "MONOSEMY_PORT"),
        ("PORT", "1e308", ["run", "list"], 2, "too large"),
        ("CORS_ORIGINS", "nowhere", ["run", "list"], 2, "MONOSEMY_CORS_ORIGINS"),
        ("REQUIRE_KEYS", "1", ["up", "--port", "0"], 2, "API keys need MONOSEMY_SECRET"),
        ("REQUIRE_KEYS", "1", ["demo", "--exit"], 2, "API keys need MONOSEMY_SECRET"),
        ("DATABASE_URL", "nonsense", ["keys", "list"], 2, "MONOSEMY_DATABASE_URL"),
        ("DATABASE_URL", "postgresql://a@127.0.0.1:9/x", ["keys", "list"], 3, "does not answer"),
        ("DATABASE_URL", "nonsense", ["migrate"], 2, "MONOSEMY_DATABASE_URL"),
        ("DATABASE_URL", "nonsense", ["backup", "away"], 2, "MONOSEMY_DATABASE_URL"),
        ("DATABASE_URL", "postgresql://a@127.0.0.1:9/x", ["migrate"], 3, "database"),
        ("DATABASE_URL", "postgresql://a@127.0.0.1:9/x", ["backup", "away"], 3, "does not answer"),
        ("DATABASE_URL", "postgresql://a@127.0.0.1:9/x", ["restore", "away"], 3, "does not answer"),
        ("INFERENCE_URL", "http://127.0.0.1:9", ["reembed"], 2, "MONOSEMY_DATABASE_URL"),
    ],
)
def test_wrong_settings_are_named(
    name: str,
    value: str,
    arguments: list[str],
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(f"MONOSEMY_{name}", value)
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == code, ended.output
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""


def test_a_table_shows_text_as_it_is_and_cuts_nothing_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    name = "x" * 100
    output.print_table(
        ("a", "b"), [(name, "\\[/b] :smile: [red]\x1b[2J"), (None, "y" * 300)], "[t]"
    )
    shown = capsys.readouterr().out
    assert name in shown
    assert "y" * 300 in shown
    assert "\\[/b] :smile: [red]\ufffd[2J" in shown
    assert shown.startswith("[t]")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["worker", "gpu"], ["workers.gpu"]),
        (["worker", "interp"], ["workers.interp"]),
        (["inference", "--port", "8421"], ["workers.inference", "--port", "8421"]),
        (
            ["judge", "--threads", "2", "--model", "m.gguf"],
            ["monosemy.interp.local_judge", "--threads", "2", "--model", "m.gguf"],
        ),
    ],
)
def test_processes_that_need_torch_are_programs_of_their_own(
    arguments: list[str], wanted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    become: list[list[str]] = []
    monkeypatch.setenv("MONOSEMY_DATABASE_URL", "postgresql://a@127.0.0.1:9/x")
    monkeypatch.setattr(os, "execv", lambda _, given: become.append(given))
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert become == [[sys.executable, "-m", *wanted]]


def test_a_worker_without_torch_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONOSEMY_DATABASE_URL", "postgresql://a@127.0.0.1:9/x")
    monkeypatch.setattr(stack_commands, "find_spec", lambda _: None)
    ended = CliRunner().invoke(app, ["worker", "gpu"])
    assert ended.exit_code == 1
    assert "monosemy[train]" in ended.stderr


def test_the_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("monosemy ")


def test_commands_that_speak_rest_import_neither_server_nor_database() -> None:
    code = (
        "import sys; from service.cli import features, keys, runs, saes, stack_commands, watch;"
        "print([m for m in ('sqlalchemy', 'fastapi', 'uvicorn', 'torch') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
