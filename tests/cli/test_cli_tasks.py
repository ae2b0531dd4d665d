"""``monosemy task`` and ``tasks``, against the served API."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from service.cli import following
from service.cli.main import app
from service.database.session import transaction
from service.database.tables import Run
from tests.support.library_rows import Library
from tests.support.task_prompts import task_prompts
from tests.support.task_rows import TASK, add_task

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("environment")]


def call(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "240"})
    assert ended.exit_code == code, ended.output
    return ended.stdout if code == 0 and "--json" in arguments else ended.output


@pytest.fixture(scope="module", autouse=True)
def kept(module_engine: Engine, library: Library) -> None:
    with transaction(module_engine) as session:
        add_task(session, library)


def test_tasks_are_listed_and_shown() -> None:
    listed = call("tasks", "list", "--sae", "demo")
    assert str(TASK) in listed and "0.62 (0.5" in listed
    shown = call("tasks", "show", str(TASK))
    assert "1,600 prompts to fit to, 400 to test on" in shown
    assert "edits of IO (100 counterfactuals)" in shown and "no edit" in shown
    assert "edits of IO, the 94 whose true activations change the answer" in shown
    assert "edits of IO, the 97 whose true activations change which of the task's" in shown
    assert "0.93 (0.89-0.97)" in shown and "0.07 (0.03-0.11)" in shown
    assert "0.84 (0.80-0.88)" in shown and "0.04 (0.01-0.07)" in shown
    assert "occluded by IO" in shown and "32 features" in shown
    printed = json.loads(call("tasks", "show", str(TASK), "--json"))
    assert printed["sections"][0]["methods"][1]["name"] == "demo"
    call("tasks", "show", str(uuid.uuid4()), code=4)
    assert "monosemy tasks list" in call("tasks", "delete", str(uuid.uuid4()), code=4)


def test_a_task_submits_a_run_and_shows_what_it_found(
    module_engine: Engine, library: Library, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    submitted: list[dict[str, Any]] = []

    def followed(client: Any, run: str, as_json: bool) -> None:
        """Whoever follows the run finds a worker that has done it."""
        submitted.append(client.get(f"/runs/{run}")["spec"])
        with transaction(module_engine) as session:
            add_task(session, library, id=uuid.UUID(run))

    monkeypatch.setattr(following, "follow", followed)
    arguments = ("--count", "300", "--names", "20", "--position", "end", "--features", "1")
    shown = call("task", "demo", *arguments, "--features", "8", "--pairs", "9", "--seed", "3")
    assert "logit difference 3.75" in shown
    (spec,) = submitted
    assert spec["saes"] == ["demo"] and spec["features"] == [1, 8] and spec["pairs"] == 9
    assert spec["positions"] == ["end"] and spec["sites"] is None
    asked = spec["prompts"]
    assert (asked["task"], asked["count"], asked["names"]) == ("indirect-objects", 300, 20)

    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(json.dumps(each) for each in task_prompts()), "utf-8")
    site = "blocks.1.hook_resid_post"
    call("task", "--prompts", str(file), "--model", "smollm2-135m-instruct", "--site", site)
    given = submitted[1]["prompts"]["items"]
    assert len(given) == 60 and given[0]["attributes"][0] == {"name": "first", "value": "captain"}
    with transaction(module_engine) as session:
        assert session.query(Run).filter_by(kind="task").count() == 2


def test_what_cannot_be_asked_is_told_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"text": 3}', "utf-8")
    told = call("task", "demo", "--prompts", str(file), code=1)
    assert "prompts.jsonl, line 1: text" in told
    assert "model and sites are needed" in call("task", code=2)
    call("task", "nothing", code=2)


def test_it_is_deleted(module_engine: Engine, library: Library) -> None:
    other = uuid.uuid4()
    with transaction(module_engine) as session:
        add_task(session, library, id=other)
    assert "Deleted" in call("tasks", "delete", str(other))
    call("tasks", "show", str(other), code=4)
