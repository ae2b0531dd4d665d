"""Every command explains itself; what cannot work ends in one line and the right exit code."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from monosemy.__main__ import main as without_a_service
from monosemy.exit_codes import MEANINGS
from service.cli.main import app

ROOT = typer.main.get_command(app)


def commands(group: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    listed: list[tuple[tuple[str, ...], Any]] = []
    for name, command in group.commands.items():
        below = (*path, name)
        if hasattr(command, "commands"):
            listed += commands(command, below)
        else:
            listed.append((below, command))
    return listed


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
    ("attention",),
    ("keys", "list"),
    ("queue", "list"),
    ("judge", "check"),
    ("steer",),
    ("list", "all"),
    ("list", "show"),
    ("tag", "list"),
    ("gc",),
    ("tag", "show"),
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
        "tokenize", "contrast", "attention",
        "queue list", "queue pause", "queue resume", "queue limit",
        "list all", "list new", "list show", "list change", "list delete", "list add",
        "list remove", "list move", "list export", "tag list", "tag show", "tag add", "tag remove",
        "run delete", "sae delete", "gc",
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
        (["run", "list", "--limit", "many"], 2, "See 'monosemy run list --help'."),
        (["run", "list", "--limit", "0"], 2, "--limit"),
        (["run", "list", "--colour", "red"], 2, "No such option"),
        (["run", "list", "left", "over"], 2, "unexpected extra"),
        (["run", "show"], 2, "Missing argument"),
        (["steer", "demo", "Once"], 2, "Name what is changed"),
        (["steer", "demo", "Once", "-f", "7"], 2, "INDEX=STRENGTH"),
        (["run", "sow", "x"], 2, "No such command"),
        (["features", "demo", "--sort", "size"], 2, "density"),
        (["--colour"], 2, "See 'monosemy --help'."),
        (["judge", "check"], 2, "MONOSEMY_JUDGE_URL"),
        (["serve", "--host", "0.0.0.0", "--port", "0"], 2, "MONOSEMY_REQUIRE_KEYS"),
        (["migrate"], 2, "MONOSEMY_DATABASE_URL"),
        (["migrate", "--role-only"], 2, "MONOSEMY_DATABASE_URL"),
        (["keys", "list"], 2, "MONOSEMY_DATABASE_URL"),
        (["backup", "away"], 2, "MONOSEMY_DATABASE_URL"),
        (["restore", "away"], 1, "holds no backup"),
        (["gc"], 2, "MONOSEMY_DATABASE_URL"),
        (["worker", "gpu"], 2, "MONOSEMY_DATABASE_URL"),
        (["reembed"], 2, "MONOSEMY_INFERENCE_URL"),
    ],
)
def test_faults_are_one_line_and_an_exit_code(
    arguments: list[str], code: int, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MONOSEMY_HOME", str(tmp_path))
    monkeypatch.setenv("MONOSEMY_URL", "http://127.0.0.1:9")
    for name in ("DATABASE_URL", "JUDGE_URL", "INFERENCE_URL"):
        monkeypatch.delenv(f"MONOSEMY_{name}", raising=False)
    ended = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert ended.exit_code == code, ended.output
    assert words in ended.stderr
    assert "Traceback" not in ended.output
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert not set("╭│╰─") & set(ended.stderr)
    words = re.findall(r"\w+:?", ended.stderr)
    assert not [a for a, b in pairwise(words) if a.lower() == b.lower() and len(a) > 1], words


@pytest.mark.parametrize("arguments", [[], ["run"], ["keys"]], ids=" ".join)
def test_a_group_alone_shows_its_commands(arguments: list[str]) -> None:
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 2
    assert "Usage: monosemy" in ended.output and "--help" in ended.output
    assert "Missing" not in ended.output


def test_what_is_not_confirmed_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    about = {"id": "1", "name": "demo", "features": {"indexed": 3, "explained": 1}}
    monkeypatch.setattr("service.cli.saes.connect", lambda: SimpleNamespace(get=lambda _: about))
    ended = CliRunner().invoke(app, ["sae", "delete", "demo"], input="n\n")
    assert ended.exit_code == 1
    assert ended.stderr.rstrip().endswith("Not confirmed; nothing was done.")


def test_the_library_says_it_in_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        without_a_service(["--colour", "red"])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.strip().endswith("See 'python -m monosemy --help'.")
    assert len(printed.err.strip().splitlines()) == 1


def test_the_exit_codes_are_one_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d+) \| ([^|]+) \|", page, re.MULTILINE))
    assert {int(code): text for code, text in rows.items()} == MEANINGS
    shown = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "300"}).stdout.split())
    for code, text in MEANINGS.items():
        assert f"{code} {text}" in shown
