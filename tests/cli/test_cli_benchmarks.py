"""``monosemy benchmark`` and ``benchmarks``, against the served API."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update
from typer.testing import CliRunner

from service.cli import following
from service.cli.main import app
from service.database.session import transaction
from service.database.tables import Run
from tests.support.benchmark_rows import PROTOCOL, RESULT, add_benchmarks
from tests.support.library_rows import Library, add_library

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("environment")]


def call(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "240"})
    assert ended.exit_code == code, ended.output
    return ended.stdout if code == 0 and "--json" in arguments else ended.output


@pytest.fixture(scope="module", autouse=True)
def kept(module_engine: Engine, library: Library) -> None:
    with transaction(module_engine) as session:
        add_library(session, "weaker")
        add_benchmarks(session, library.name, "weaker")


def test_results_are_listed_and_shown() -> None:
    listed = call("benchmarks", "list", "--sae", "demo")
    assert str(RESULT) in listed and PROTOCOL in listed and "0.7505 (0.7" in listed
    assert "weaker" not in listed and "weaker" in call("benchmarks", "list")
    shown = call("benchmarks", "show", str(RESULT))
    assert "demo by core (version 1), tiny-demo at" in shown and "12 tasks, seeds 0, 1" in shown
    assert "frozen" in shown and "random" in shown and "Units are tasks." in shown
    assert json.loads(call("benchmarks", "show", str(RESULT), "--json"))["unit"] == "task"
    assert "monosemy benchmarks list" in call("benchmarks", "show", str(uuid.uuid4()), code=4)
    assert "core" in call("benchmarks", "kinds") and "tokens" in call("benchmarks", "kinds")


def test_a_leaderboard_says_who_can_be_told_apart() -> None:
    assert PROTOCOL in call("benchmarks", "leaderboards", "--benchmark", "core")
    board = call("benchmarks", "leaderboard")
    assert "1 of 1 pair can be told apart, over 12 tasks of 12 families" in board
    assert "less demo" in board and "frozen" in board
    assert "demo, weaker differ in their seed alone: mean 0.7005" in board
    by_l0 = call("benchmarks", "leaderboard", PROTOCOL, "--metric", "l0", "--against", "weaker")
    assert "less weaker" in by_l0 and "not told apart" in by_l0
    assert "there are: auc, l0" in call("benchmarks", "leaderboard", "--metric", "f1", code=2)
    assert "benchmarks leaderboards" in call("benchmarks", "leaderboard", "none", code=4)


def test_a_benchmark_submits_a_run_and_shows_its_leaderboards(
    module_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted: list[dict[str, Any]] = []

    def followed(client: Any, run: str, as_json: bool) -> None:
        """Whoever follows the run finds a worker that has done it."""
        submitted.append(client.get(f"/runs/{run}")["spec"])
        failure = {"sae": "weaker", "benchmark": "core", "reason": "It broke."}
        failure["advice"] = "Mend it."
        result = {"results": [{"protocol": PROTOCOL}], "not_measured": [failure]}
        with transaction(module_engine) as session:
            ended = {"result": result, "state": "succeeded"}
            session.execute(update(Run).where(Run.id == uuid.UUID(run)).values(**ended))

    monkeypatch.setattr(following, "follow", followed)
    saes = ("--sae", "demo", "--sae", "weaker")
    options = ("--seed", "3", "--seed", "4", "--set", "core.tokens=2048")
    shown = call("benchmark", "core", *saes, *options)
    assert "core, auc: tiny-demo" in shown
    assert "weaker was not measured by core: It broke. Mend it." in shown
    (spec,) = submitted
    assert spec["saes"] == ["demo", "weaker"]
    (core,) = spec["benchmarks"]
    assert (core["benchmark"], core["seeds"], core["tokens"]) == ("core", [3, 4], 2048)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("core", "--sae", "demo", "--set", "tokens=5"), "must begin with the name"),
        (("core", "--sae", "demo", "--set", "core.tokenz=5"), "tokenz"),
        (("cores", "--sae", "demo"), "core"),
        (("core",), "--sae"),
        (("core", "--sae", "demo", "--sae", "demo"), "twice"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments: tuple[str, ...], says: str) -> None:
    assert says in call("benchmark", *arguments, code=2)


def test_what_has_no_files_of_a_peer_is_refused(tmp_path: Path) -> None:
    export = ("benchmarks", "export", str(RESULT), str(tmp_path))
    assert "has no losses" in call(*export, code=1)
    assert "not of 'probing'" in call(*export, "--layout", "sae-probes", code=1)
    assert not [*tmp_path.iterdir()]


def test_one_of_no_sae_and_a_deleted_one(module_engine: Engine) -> None:
    assert "nobody" in call("benchmark", "core", "--sae", "nobody", code=2)
    call("benchmarks", "delete", str(RESULT))
    call("benchmarks", "delete", str(RESULT), code=4)
    with transaction(module_engine) as session:
        add_benchmarks(session, "demo", "weaker")
