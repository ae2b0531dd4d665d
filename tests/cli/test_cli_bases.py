"""``monosemy basis``, ``bases`` and ``report --beside``, against the served API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select
from typer.testing import CliRunner

from service.cli import bases
from service.cli.main import app
from service.database.session import transaction
from service.database.tables import Run, Sae
from tests.support.library_rows import Library, add_explanation, add_library, unit

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("environment")]


def call(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert ended.exit_code == code, ended.output
    return ended.output


@pytest.fixture(scope="module")
def scored(module_engine: Engine, library: Library) -> Library:
    """The SAE has scores."""
    with transaction(module_engine) as session:
        for feature in range(8):
            text = f"Subject {feature}."
            add_explanation(session, library, feature, "x", text, 0.6 + feature / 20, unit(feature))
    return library


def specs(engine: Engine, kind: str) -> list[dict[str, Any]]:
    with transaction(engine) as session:
        return [run.spec for run in session.scalars(select(Run).where(Run.kind == kind))]


def test_a_basis_is_asked_for(
    module_engine: Engine, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bases, "follow", lambda *_: None)
    call("basis", "pca", "--beside", "demo", "--l0", "8", "--directions", "20", "--set", "seed=3")
    (spec,) = specs(module_engine, "basis")
    assert (spec["basis"], spec["beside"], spec["l0"], spec["directions"], spec["seed"]) == (
        *("pca", "demo", 8.0, 20, 3),
    )
    assert "leave directions out" in call("basis", "neurons", "--directions", "3", code=2)
    assert "nobody" in call("basis", "pca", "--beside", "nobody", code=2)


def test_the_figure_is_one_command(
    module_engine: Engine, scored: Library, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever follows a pipeline finds workers that have done it."""

    def follow(_: Any, run: str, as_json: bool) -> None:
        with transaction(module_engine) as session:
            children = session.scalars(select(Run).where(Run.parent_id == run)).all()
            (made,) = [each for each in children if each.kind == "basis"]
            name = made.spec["basis"]
            basis = add_library(session, name, 6)
            row = session.get_one(Sae, basis.sae)
            row.config = {**row.config, "basis": {"basis": name}}
            for feature in range(6):
                add_explanation(
                    session, basis, feature, "x", f"{name} {feature}.", 0.5, unit(feature)
                )
            made.result = {"sae_id": str(basis.sae)}

    monkeypatch.setattr(bases, "follow", follow)
    page = tmp_path / "bases.html"
    told = call("bases", "demo", "--to", str(page), "--set", "explanation.features.count=5")
    assert "The median balanced accuracy of demo less that of neurons is" in told
    assert "random_directions" in told and "<svg" in page.read_text(encoding="utf-8")
    pipelines = specs(module_engine, "basis_pipeline")
    assert [each["basis"] for each in pipelines] == ["neurons", "random_directions"]
    assert all(each["explanation"]["features"]["count"] == 5 for each in pipelines)
    shown = call("sae", "show", "neurons")
    assert "basis, not trained" in shown and "trained on" not in shown
    again = tmp_path / "again.html"
    told = call("report", "demo", "--beside", "neurons", "--to", str(again))
    assert "less that of neurons" in told and again.exists()
    assert "two reports" in call(
        "report", "demo", "--beside", "neurons", "--reference", "neurons", code=2
    )


def test_what_it_refuses(scored: Library) -> None:
    assert "at most 3" in call("bases", "demo", "--basis", "ica", code=2)
    assert "nobody" in call("bases", "nobody", code=4)
