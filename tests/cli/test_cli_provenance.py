"""What stands behind words and scores, what waits for a person, numbers of all features."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

import monosemy
from service.cli.main import app
from service.database.session import transaction
from tests.support.gathered_rows import add_list
from tests.support.library_rows import Library
from tests.support.scored_rows import GOOD, POOR, Scored, add_scored

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("environment")]


@pytest.fixture(scope="module")
def scored(module_engine: Engine, library: Library) -> Scored:
    with transaction(module_engine) as session:
        add_list(session, library, "two", [GOOD, 2])
        return add_scored(session, library)


def call(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert ended.exit_code == code, ended.output
    return ended.output


def test_judgements_are_listed_one_by_one(scored: Scored) -> None:
    score = str(scored.scores[POOR])
    page = json.loads(call("feature", "judgements", "demo", str(POOR), score, "--json"))
    shown = call("feature", "judgements", "demo", str(POOR), score)
    assert f"{page['n']} judgements of use" in shown and "<<" in shown
    wrong = call("feature", "judgements", "demo", str(POOR), score, "--outcome", "wrong", "--json")
    assert 0 < len(json.loads(wrong)["items"]) < len(page["items"])
    # A score of another feature is none of this one's.
    assert "score" in call("feature", "judgements", "demo", str(GOOD), score, code=4)


def test_the_way_back_to_the_text(scored: Scored, served: str) -> None:
    with monosemy.Client(served) as client:
        explanation = client.features.get("demo", GOOD).explanations[0]
        links = client.explanations.provenance(explanation.id).links
    shown = call("explanation", "provenance", str(explanation.id))
    assert explanation.text in shown and "demo" in shown
    assert shown.count("equal") + shown.count("DIFFERENT") == len(links)
    assert "no explanation" in call("explanation", "provenance", "0" * 32, code=4)


def test_what_waits_for_a_person(scored: Scored, served: str) -> None:
    shown = call("explanation", "waiting", "--list", "two")
    assert "0 of 2" in shown
    call("explanation", "add", "demo", str(GOOD), "mine")
    assert "1 of 2" in call("explanation", "waiting", "--list", "two")
    left = json.loads(call("explanation", "waiting", "--list", "two", "--todo", "--json"))
    assert [each["feature"] for each in left["items"]] == [2]
    with monosemy.Client(served) as client:
        assert [each.feature for each in client.sittings.waiting(list="two", todo=True)] == [2]
    assert "a list or an SAE" in call("explanation", "waiting", code=2)


def test_numbers_of_all_features_as_csv(scored: Scored, served: str) -> None:
    text = call("sae", "columns", "demo", "--column", "maximum", "--column", "score")
    rows = list(csv.DictReader(io.StringIO(text)))
    with monosemy.Client(served) as client:
        known = client.features.columns("demo", ["maximum", "score"])
    assert [float(row["maximum"]) for row in rows] == pytest.approx(known["maximum"].tolist())
    assert [row["score"] == "" for row in rows] == [x != x for x in known["score"]]
    as_json = json.loads(call("sae", "columns", "demo", "--column", "score", "--json"))
    assert [x is None for x in as_json["score"]] == [x != x for x in known["score"]]
    assert "top_token_share" in call("sae", "columns", "demo", "--column", "nothing", code=2)


def test_a_list_as_one_page(scored: Scored, tmp_path: Path) -> None:
    file = tmp_path / "two.html"
    call("list", "page", "two", str(file))
    assert "<!doctype html>" in file.read_text().lower() and "<script" not in file.read_text()
    before = file.read_bytes()
    assert "there already" in call("list", "page", "two", str(file), code=1)
    assert file.read_bytes() == before
    assert "no list" in call("list", "page", "nothing", str(tmp_path / "x.html"), code=4)
    assert not (tmp_path / "x.html").exists()
