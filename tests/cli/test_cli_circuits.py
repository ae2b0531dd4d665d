"""``monosemy circuit``, against the served API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete
from typer.testing import CliRunner

from service.circuits.repository import store_circuit
from service.cli import following
from service.cli.main import app
from service.database.circuit_tables import Circuit
from service.database.session import transaction
from service.database.tables import Run
from tests.support.circuit_rows import BARE, CIRCUIT, add_circuits, made_up

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("environment")]


@pytest.fixture(autouse=True)
def stored(module_engine: Engine) -> Iterator[None]:
    with transaction(module_engine) as session:
        session.execute(delete(Circuit))
        add_circuits(session)
    yield


def call(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert ended.exit_code == code, ended.output
    return ended.stdout if code == 0 and "--json" in arguments else ended.output


def test_it_is_listed_shown_and_deleted() -> None:
    listed = call("circuit", "list")
    assert "who is given" in listed and f"{made_up().found} of 48" in listed
    shown = call("circuit", "show", str(CIRCUIT))
    made = made_up()
    best = max(made.heads, key=lambda each: each.z)
    assert f"{best.layer}.{best.head}" in shown and f"{best.z:.2f}" in shown
    assert made.causal is not None and made.edges is not None and made.known is not None
    assert f"{made.causal.clean.value:.2f}" in shown and "64 fresh prompts" in shown
    assert f"{made.edges.found} of {made.edges.pairs:,} edges among all heads" in shown
    assert f"ROC AUC of z {made.known.auc.value:.2f}" in shown
    assert "Left out 2 names" in shown and "Brandon" in shown
    assert json.loads(call("circuit", "show", str(CIRCUIT), "--json"))["found"] == made.found
    assert "No check by ablation: it was not asked for." in call("circuit", "show", str(BARE))
    call("circuit", "delete", str(CIRCUIT))
    assert "monosemy circuit list" in call("circuit", "show", str(CIRCUIT), code=4)


def test_prompts_of_ones_own_are_sent(
    module_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever follows the run finds a worker that has done it."""

    def follow(_: Any, run: str, as_json: bool) -> None:
        with transaction(module_engine) as session:
            store_circuit(session, session.get_one(Run, run).id, "mine", "host", made_up(), None)

    monkeypatch.setattr(following, "follow", follow)
    file = tmp_path / "mine.jsonl"
    lines = [
        {"text": f"{word} a", "positive": word < "e", "right": " b", "wrong": " c"}
        for word in "abcdefgh"
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    options = ("--seeds", "2", "--no-causal", "--edges", "none", "--permutations", "50")
    assert "mine: " in call("circuit", "find", "--prompts", str(file), *options, "--name", "mine")
    with transaction(module_engine) as session:
        (spec,) = [run.spec for run in session.query(Run).filter_by(kind="circuit")]
    assert spec["prompts"]["task"] == "given" and len(spec["prompts"]["items"]) == 8
    assert spec["prompts"]["items"][0]["right"] == [" b"]
    assert (spec["permutations"], spec["edges"], spec["causal"]) == (50, "none", None)
    assert spec["codes"]["seeds"] == 2

    file.write_text('{"text": "a b", "positive": "yes"}')
    assert "line 1: positive" in call("circuit", "find", "--prompts", str(file), code=1)
    call("circuit", "find", "--prompts", str(tmp_path / "nothing.jsonl"), code=1)
    call("circuit", "find", "--permutations", "3", code=2)
    call("circuit", "find", "--task", "nothing", code=2)
