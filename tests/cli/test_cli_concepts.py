"""``monosemy concept``, against the served API."""

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
from tests.support.concept_rows import NAME, add_concept
from tests.support.library_rows import Library

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("environment")]


def call(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "240"})
    assert ended.exit_code == code, ended.output
    return ended.stdout if code == 0 and "--json" in arguments else ended.output


@pytest.fixture(scope="module", autouse=True)
def kept(module_engine: Engine, library: Library) -> None:
    with transaction(module_engine) as session:
        add_concept(session, library)


def test_concepts_are_listed_and_shown() -> None:
    listed = call("concept", "list", "--sae", "demo")
    assert NAME in listed and "0.94 (0.88-1.00)" in listed
    shown = call("concept", "show", NAME)
    assert (
        "2 features by the rule difference (44 more of the targets are not chosen), scale" in shown
    )
    assert "rule share" in shown and "features of most targets" in shown
    assert "by 30 retain texts (19 are the least" in shown
    assert "In 95 of 100 splits up to 12.5% of the latter are flagged by chance alone." in shown
    assert "linear probe" in shown and "LEACE" in shown and "random features" in shown
    assert "(the mean of the last stream, 576 wide) of 26 flagged targets of 30" in shown
    assert "No others are named" in shown and "the probe is of 'spoke'" in shown
    printed = json.loads(call("concept", "show", NAME, "--json"))
    assert printed["concept"]["features"] == [3, 8]
    assert "monosemy concept list" in call("concept", "show", "nothing", code=4)


def test_find_submits_a_run_and_shows_what_it_found(
    module_engine: Engine, library: Library, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    submitted: list[dict[str, Any]] = []

    def followed(client: Any, run: str, as_json: bool) -> None:
        submitted.append(client.get(f"/runs/{run}")["spec"])
        with transaction(module_engine) as session:
            add_concept(session, library, "whales", uuid.UUID(run))

    monkeypatch.setattr(following, "follow", followed)
    targets, retain = tmp_path / "targets.txt", tmp_path / "retain.txt"
    targets.write_text("a whale\n\nwhales\n", "utf-8")
    retain.write_text("a clock\nclocks\n", "utf-8")
    files = ("--targets", str(targets), "--retain", str(retain))
    options = ("--scale", "-8", "--top-k", "16", "--no-keep-error", "--false-alarms", "0.1")
    options += ("--rule", "share")
    options += ("--called", "a whale", "--other", "a clock", "--other", "a river", "--word", "sea")
    shown = call("concept", "find", "whales", "demo", *files, *options)
    assert "telling texts" in shown
    (spec,) = submitted
    assert spec["targets"] == ["a whale", "whales"] and spec["retain"] == ["a clock", "clocks"]
    assert (spec["scale"], spec["top_k"], spec["keep_error"]) == (-8, 16, False)
    assert spec["rule"] == "share"
    assert (spec["called"], spec["word"]) == ("a whale", "sea")
    assert spec["others"] == ["a clock", "a river"]
    assert spec["false_alarms"] == 0.1 and spec["confidence"] is None

    retain.write_text("", "utf-8")
    assert "retain" in call("concept", "find", "x", "demo", *files, code=2)
    files = ("--targets", str(tmp_path / "none"), "--retain", str(retain))
    none = call("concept", "find", "x", "demo", *files, code=1)
    assert none == f"{tmp_path / 'none'}: No such file or directory\n"
    targets.write_bytes(b"\xff")
    files = ("--targets", str(targets), "--retain", str(retain))
    assert "is not UTF-8" in call("concept", "find", "x", "demo", *files, code=2)
    targets.write_text("a whale", "utf-8")
    retain.write_text("a clock", "utf-8")
    not_finite = call("concept", "find", "x", "demo", *files, "--scale", "nan", code=2)
    assert not_finite == "scale: a finite number is expected.\n"
    retain.write_text("a clock\na whale", "utf-8")
    assert "'a whale'" in call("concept", "find", "x", "demo", *files, code=2)
    assert "Deleted" in call("concept", "delete", "whales")
    call("concept", "delete", "whales", code=4)
