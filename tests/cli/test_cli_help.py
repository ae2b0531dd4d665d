"""Every command explains itself; what cannot work ends in one line and the right exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from service.cli.main import app

ROOT = typer.main.get_command(app)


def commands(group: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for name, command in group.commands.items():
        below = (*path, name)
        if hasattr(command, "commands"):
            found += commands(command, below)
        else:
            found.append((below, command))
    return found


ALL = commands(ROOT)


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_command_has_help_and_an_example(path: tuple[str, ...], command: Any) -> None:
    shown = CliRunner().invoke(app, [*path, "--help"])
    assert shown.exit_code == 0
    assert command.help is not None
    example = command.help.split("Example:")[1].strip()
    assert example.startswith(f"monosemy {' '.join(path)}"), example
    for parameter in command.params:
        assert getattr(parameter, "help", "") or parameter.name == "help", (path, parameter.name)


READING = [
    ("run", "list"),
    ("run", "show"),
    ("run", "watch"),
    ("sae", "list"),
    ("sae", "show"),
    ("models",),
    ("features",),
    ("feature", "show"),
    ("search",),
    ("activations",),
    ("tokenize",),
    ("contrast",),
    ("keys", "list"),
    ("queue", "list"),
    ("judge", "check"),
    ("steer",),
]


@pytest.mark.parametrize("path", READING, ids=" ".join)
def test_every_reading_command_speaks_json(path: tuple[str, ...]) -> None:
    options = {o for p in dict(ALL)[path].params for o in p.opts}
    assert "--json" in options


def test_the_commands_of_the_interface_are_there() -> None:
    wanted = {
        "up", "demo", "migrate", "serve", "worker", "inference", "features",
        "run submit", "run list", "run show", "run watch", "run cancel", "run retry",
        "sae list", "sae show", "sae export", "feature show",
        "keys create", "keys list", "keys revoke", "steer", "run prioritise", "judge check",
        "tokenize", "contrast",
        "queue list", "queue pause", "queue resume", "queue limit",
    }  # fmt: skip
    assert wanted <= {" ".join(path) for path, _ in ALL}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "submit", "--kind", "pipline"], 2, "did you mean 'pipeline'"),
        (["run", "submit", "--kind", "train", "--set", "trainig.tokens=3"], 2, "'training'"),
        (["run", "submit", "--kind", "train", "--set", "tokens"], 2, "key.subkey=value"),
        (["run", "submit", "missing.yaml"], 2, "cannot read"),
        (["run", "submit"], 2, "kind"),
        (["run", "list"], 3, "monosemy up"),
        (["features", "demo"], 3, "does not answer"),
        (["worker", "cpu"], 2, "gpu"),
        (["nonsense"], 2, "No such command"),
        (["serve", "--host", "0.0.0.0", "--port", "0"], 1, "MONOSEMY_REQUIRE_KEYS"),
        (["migrate"], 1, "MONOSEMY_DATABASE_URL"),
        (["keys", "list"], 1, "MONOSEMY_DATABASE_URL"),
    ],
)
def test_faults_are_one_line_and_an_exit_code(
    arguments: list[str], code: int, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MONOSEMY_HOME", str(tmp_path))
    monkeypatch.setenv("MONOSEMY_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("MONOSEMY_DATABASE_URL", raising=False)
    ended = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert ended.exit_code == code, ended.output
    assert words in ended.stderr
    assert "Traceback" not in ended.output
    assert ended.stdout == ""
