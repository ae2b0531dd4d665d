"""``monosemy run check``, ``log`` and ``show`` of what waits; ``monosemy doctor --service``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from service.cli.main import app
from service.database.session import transaction
from tests.support.run_rows import tell

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("environment")]


def call(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert ended.exit_code == code, ended.output
    return ended.stdout if "--json" in arguments else ended.output


def test_a_spec_is_checked_without_being_submitted(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("kind: explain\nsae: demo\n")
    before = call("run", "list")
    assert "executed by the queue 'interp'" in call("run", "check", str(spec))
    spec.write_text("kind: explain\nsae: nobody\n")
    assert "sae: There is no SAE 'nobody'" in call("run", "check", str(spec), code=2)
    reading = json.loads(call("run", "check", str(spec), "--json", code=2))
    assert reading["errors"][0]["path"] == "sae" and reading["spec"]["kind"] == "explain"
    assert call("run", "list") == before


def test_a_log_is_printed_with_the_newest_last(module_engine: Engine) -> None:
    """What it holds cannot act on the terminal."""
    run = call("run", "submit", "--kind", "train", "--set", "name=logged").strip()
    with transaction(module_engine) as session:
        for message in ("first", "[bold]second\x1b[31m[/]"):
            tell(session, run, "log", {"message": message, "count": 3})  # type: ignore[arg-type]
    lines = call("run", "log", run).strip().splitlines()
    assert [line.split("  ", 1)[1].split(" ", 1)[1].split(" count")[0][:5] for line in lines] == [
        "first",
        "[bold",
    ]
    assert "\x1b" not in "".join(lines) and "count=3" in lines[-1]
    events = [json.loads(line) for line in call("run", "log", run, "--json").splitlines()]
    assert [each["type"] for each in events] == ["state", "log", "log"]
    call("run", "cancel", run)


def test_what_a_run_waits_for_is_shown() -> None:
    run = call("run", "submit", "--kind", "train", "--set", "name=waits").strip()
    shown = call("run", "show", run)
    assert "It waits for a worker of 'gpu'; it is next." in shown
    second = call("run", "submit", "--kind", "train", "--set", "name=later").strip()
    assert "1 go before it" in call("run", "show", second)
    assert "later" in call("run", "list")
    call("queue", "pause", "gpu")
    assert "The queue 'gpu' is paused." in call("run", "show", run)
    call("queue", "resume", "gpu")
    for each in (run, second):
        call("run", "cancel", each)
    assert "waits" not in call("run", "show", run).replace("name", "")


def test_the_service_is_asked_what_it_finds() -> None:
    findings = json.loads(call("doctor", "--service", "--json", code=1))
    by_check = {each["check"]: each for each in findings}
    assert by_check["database"]["status"] == "ok" and by_check["redis"]["status"] == "failed"
    assert "Redis" in call("doctor", "--service", code=1)
