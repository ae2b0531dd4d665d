"""``monosemy compare``, ``comparison`` and ``links``, against the served API."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from service.cli import following
from service.cli.main import app
from service.database.comparison_tables import Comparison, FeatureLink
from service.database.session import transaction
from tests.support.library_rows import Library, add_library

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("environment")]

DISTRIBUTION = {"n": 9, "mean": 0.125, "p05": 0.1, "median": 0.1, "p95": 0.2, "max": 0.25}
SUMMARY = {
    "greedy": False,
    "matched": 7,
    "matched_share_a": 0.5,
    "matched_share_b": 0.875,
    "mean_matched": 0.9375,
    "mean_best_a": 0.625,
    "mean_best_b": 0.5625,
    "null": DISTRIBUTION,
    "within_a": DISTRIBUTION,
    "histogram": {"edges": [0.0, 0.5, 1.0], "counts": [3, 6]},
}


def call(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert ended.exit_code == code, ended.output
    return ended.stdout if code == 0 and "--json" in arguments else ended.output


@pytest.fixture(scope="module")
def comparison(module_engine: Engine, library: Library) -> uuid.UUID:
    with transaction(module_engine) as session:
        other = add_library(session, "other", features=8)
        made = Comparison(
            id=uuid.uuid4(),
            sae_a=library.sae,
            sae_b=other.sae,
            by="decoder",
            method="mutual",
            summary=SUMMARY,
        )
        session.add(made)
        session.flush()
        for a, b, value, matched in ((3, 5, 0.9, True), (3, 6, 0.4, False)):
            session.add(
                FeatureLink(
                    comparison_id=made.id, feature_a=a, feature_b=b, value=value, matched=matched
                )
            )
        return made.id


def test_comparisons_are_listed_and_shown(comparison: uuid.UUID) -> None:
    assert "other" in call("comparison", "list", "--sae", "demo")
    shown = call("comparison", "show", str(comparison))
    assert "7 partners, 50.0% of demo, 87.5% of other" in shown
    assert "0.938" in shown and "0.250" in shown and "0.900" in shown
    assert "#" * 40 in shown and "#" * 41 not in shown
    printed = json.loads(call("comparison", "show", str(comparison), "--json"))
    assert [match["b"]["index"] for match in printed["matches"]] == [5]
    call("comparison", "show", str(uuid.uuid4()), code=4)


def test_links_of_a_feature(comparison: uuid.UUID) -> None:
    lines = call("links", "demo", "3")
    assert "partner" in lines and "coactivation" in lines
    printed = json.loads(call("links", "other", "5", "--json"))["items"]
    (twin,) = [link for link in printed if link["matched"]]
    assert (twin["sae"]["name"], twin["index"]) == ("demo", 3)


def test_comparing_submits_a_run_and_shows_what_it_made(
    comparison: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted: list[dict[str, Any]] = []

    def followed(client: Any, run: str, as_json: bool) -> None:
        submitted.append(client.get(f"/runs/{run}"))

    monkeypatch.setattr(following, "follow", followed)
    call("compare", "demo", "other", "--by", "tokens", "--json")
    (run,) = submitted
    assert run["spec"] == {
        "kind": "compare",
        "sae": "demo",
        "other": "other",
        "by": "tokens",
        "method": "mutual",
        "neighbours": 3,
    }
    assert "one and the same" in call("compare", "demo", "demo", code=2)
