"""``monosemy heads``, ``sae heads`` and features by head and family, against the served API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from service.cli import following
from service.cli.main import app
from service.database.session import transaction
from service.database.tables import Run
from tests.support.attention_rows import add_attention, remove_attention, standing_at
from tests.support.library_rows import Library

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("environment")]


def call(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert ended.exit_code == code, ended.output
    return ended.stdout if code == 0 and "--json" in arguments else ended.output


def test_it_is_shown(module_engine: Engine, library: Library) -> None:
    assert "monosemy heads demo" in call("sae", "heads", "demo", code=1)
    with transaction(module_engine) as session:
        found = add_attention(session, library)
    shown = call("sae", "heads", "demo")
    printed = json.loads(call("sae", "heads", "demo", "--json"))
    assert f"3 heads, {len(found)} features that fire" in shown
    assert "0 of 3 heads have features that are more alike than random ones" in shown
    for head in printed["heads"]:
        assert f"{head['cosine']:.2f}" in shown and str(head["features"][0]["index"]) in shown
    listed = json.loads(
        call("features", "demo", "--head", "1", "--family", "local", "--json", "--limit", "200")
    )
    assert [each["index"] for each in listed["items"]] == [
        each.index for each in found if (each.head, each.family) == (1, "local")
    ]
    call("features", "demo", "--family", "cats", code=2)


def test_it_is_made(
    module_engine: Engine, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever follows the run finds a worker that has done it."""

    def follow(_: Any, run: str, as_json: bool) -> None:
        with transaction(module_engine) as session:
            add_attention(session, library)

    monkeypatch.setattr(following, "follow", follow)
    with transaction(module_engine) as session:
        remove_attention(session, library)
    with standing_at(module_engine, library):
        shown = call("heads", "demo", "--rows", "12", "--seed", "7")
    assert "demo at blocks.2.attn.hook_z" in shown
    with transaction(module_engine) as session:
        (spec,) = [run.spec for run in session.query(Run).filter_by(kind="attention")]
    assert spec == {
        "kind": "attention",
        "sae": "demo",
        "rows": 12,
        "examples": 10,
        "top": 10,
        "draws": 1000,
        "seed": 7,
    }
    call("heads", "nothing", code=2)
    call("heads", "demo", "--rows", "0", code=2)
