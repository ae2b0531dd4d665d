"""``monosemy queue`` and priorities, against the served API."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from service.cli.main import app
from service.database.session import transaction

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("environment")]


def call(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert ended.exit_code == code, ended.output
    return ended.stdout if code == 0 and "--json" in arguments else ended.output


@pytest.fixture(autouse=True)
def nothing_said(module_engine: Engine) -> Iterator[None]:
    yield
    with transaction(module_engine) as session:
        session.execute(text("DELETE FROM queues"))


def test_queues_are_paused_limited_and_listed() -> None:
    assert "gpu: paused" in call("queue", "pause", "gpu")
    assert "at most 2 at once" in call("queue", "limit", "gpu", "2")
    gpu, interp = json.loads(call("queue", "list", "--json"))
    assert (gpu["paused"], gpu["max_running"]) == (True, 2) and not interp["paused"]
    assert "paused" in call("queue", "list")
    assert "gpu: open" in call("queue", "resume", "gpu")
    assert json.loads(call("queue", "limit", "gpu", "0", "--json"))["max_running"] is None
    call("queue", "pause", "cpu", code=2)


def test_a_run_is_put_first() -> None:
    run = call("run", "submit", "--kind", "train", "--priority", "5").strip()
    shown = json.loads(call("run", "prioritise", run, "9", "--json"))
    assert shown["priority"] == 9
    call("run", "prioritise", run, "101", code=2)
    call("run", "cancel", run)
    assert "nothing to put first" in call("run", "prioritise", run, "1", code=1)
