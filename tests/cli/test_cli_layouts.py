"""``monosemy layout`` and ``sae layout``, against the served API."""

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
from tests.support.layout_rows import add_layout, remove_layout
from tests.support.library_rows import Library

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("environment")]


def call(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert ended.exit_code == code, ended.output
    return ended.stdout if code == 0 and "--json" in arguments else ended.output


def test_it_is_shown(module_engine: Engine, library: Library) -> None:
    assert "monosemy layout demo" in call("sae", "layout", "demo", code=1)
    with transaction(module_engine) as session:
        add_layout(session, library)
    shown = call("sae", "layout", "demo")
    printed = json.loads(call("sae", "layout", "demo", "--json"))
    kept = printed["faithfulness"]
    assert "48 features, 12 silent ones left out" in shown and "n = 48" in shown
    for share in (kept["layout"]["value"], kept["pca"]["low"], kept["chance"]):
        assert f"{share:.1%}" in shown
    assert "perplexity 15.7" in shown and f"{kept['trustworthiness']:.3f}" in shown


def test_it_is_made(
    module_engine: Engine, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever follows the run finds a worker that has done it."""

    def follow(_: Any, run: str, as_json: bool) -> None:
        with transaction(module_engine) as session:
            add_layout(session, library)

    monkeypatch.setattr(following, "follow", follow)
    with transaction(module_engine) as session:
        remove_layout(session, library)
    shown = call("layout", "demo", "--perplexity", "12", "--seed", "7", "--silent")
    assert "Layout of demo by t-SNE" in shown
    with transaction(module_engine) as session:
        (spec,) = [run.spec for run in session.query(Run).filter_by(kind="layout")]
    assert spec == {
        "kind": "layout",
        "sae": "demo",
        "perplexity": 12.0,
        "exaggeration": 1.0,
        "iterations": 500,
        "seed": 7,
        "silent": True,
    }
    call("layout", "nothing", code=2)
    call("layout", "demo", "--perplexity", "1e9", code=2)
