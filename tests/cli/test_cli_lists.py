"""``monosemy list`` and ``monosemy tag``, against the served API."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from service.cli.main import app
from service.database.session import transaction
from tests.support.library_rows import add_library

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("environment")]


def call(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert ended.exit_code == code, ended.output
    return ended.output


def answer(*arguments: str) -> Any:
    ended = CliRunner().invoke(app, [*arguments, "--json"])
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


@pytest.fixture(autouse=True)
def nothing_gathered(module_engine: Engine) -> Iterator[None]:
    yield
    with transaction(module_engine) as session:
        for table in ("feature_lists", "feature_tags"):
            session.execute(text(f"DELETE FROM {table}"))


def test_a_list_from_beginning_to_end() -> None:
    assert "kings of old: begun" in call("list", "new", "kings of old", "--description", "rulers")
    assert "3 added; 3 features now" in call("list", "add", "kings of old", "demo", "4", "8", "1")
    call("list", "add", "kings of old", "demo", "8", "--note", "crowned")
    assert "1 moved" in call("list", "move", "kings of old", "demo", "1", "--to", "0")
    assert "1 removed; 2 features" in call("list", "remove", "kings of old", "demo", "4")
    shown = answer("list", "show", "kings of old")
    assert [(e["feature"], e["note"]) for e in shown["entries"]["items"]] == [
        (1, ""),
        (8, "crowned"),
    ]
    assert "crowned" in call("list", "show", "kings of old")
    rows = list(csv.DictReader(io.StringIO(call("list", "export", "kings of old"))))
    assert [row["feature"] for row in rows] == ["1", "8"]
    lines = call("list", "export", "kings of old", "--format", "jsonl").splitlines()
    assert json.loads(lines[1])["note"] == "crowned"
    call("list", "change", "kings of old", "--rename", "royals")
    call("list", "change", "royals", code=2)
    assert [each["name"] for each in answer("list", "all", "--sae", "demo")["items"]] == ["royals"]
    assert "rulers" in call("list", "all")
    call("list", "delete", "royals")
    call("list", "show", "royals", code=4)


@pytest.mark.parametrize(
    "name",
    ["a/b", "../x", " demo", "", ".", "-x", "a?b", "a\nb", "\u202e", "half\ud800"],
    ids=ascii,
)
def test_a_name_that_no_address_holds_is_refused_in_a_line(name: str) -> None:
    made = CliRunner().invoke(app, ["list", "new", "--", name], env={"COLUMNS": "200"})
    assert made.exit_code == 2 and len(made.stderr.splitlines()) == 1, made.output
    for command in (("list", "show"), ("list", "delete"), ("sae", "show")):
        ended = CliRunner().invoke(app, [*command, "--", name], env={"COLUMNS": "200"})
        assert ended.exit_code in (2, 4) and isinstance(ended.exception, SystemExit), ended.output


def test_tags() -> None:
    assert call("tag", "add", "demo", "3", "Royal Family", "people").split() == [
        "people",
        "royal-family",
    ]
    call("tag", "add", "demo", "5", "people")
    listed = answer("tag", "list", "--sae", "demo")["items"]
    counts = {each["tag"]: each["features"] for each in listed}
    assert counts == {"people": 2, "royal-family": 1}
    assert "royal-family" in call("tag", "list", "--prefix", "Roy")
    items = answer("features", "demo", "--tag", "people")["items"]
    assert [each["index"] for each in items] == [3, 5]
    assert call("tag", "remove", "demo", "3", "people", "Royal Family").strip() == ""
    assert answer("tag", "show", "demo", "3") == []
    call("tag", "add", "demo", "3", "a/b", code=2)
    call("tag", "show", "demo", "999", code=4)


def test_saes_and_runs_are_deleted(module_engine: Engine) -> None:
    with transaction(module_engine) as session:
        add_library(session, "going", features=3)
    asked = CliRunner().invoke(app, ["sae", "delete", "going"], input="n\n")
    assert asked.exit_code != 0 and "3 features" in asked.output
    answer("sae", "show", "going")
    call("sae", "delete", "going", "--yes")
    call("sae", "show", "going", code=4)
    run = call("run", "submit", "--kind", "train").strip()
    assert "cancel it first" in call("run", "delete", run, code=1)
    call("run", "cancel", run)
    assert "deleted" in call("run", "delete", run)
    call("run", "show", run, code=4)
