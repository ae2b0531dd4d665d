"""Judges' tests over REST and at the command line, and what heads a feature because of scores."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from monosemy.interp.judge_test.asking import grade_explanations
from monosemy.interp.judge_test.concepts import concepts
from monosemy.interp.judge_test.result import RoleTest
from service.database.session import transaction
from service.database.tables import Explanation, Score
from service.judge_tests import repository
from tests.support.library_rows import Library, add_explanation

pytestmark = pytest.mark.integration

URL = "/api/v1/saes/demo/features"
GOOD = grade_explanations(concepts(), [each.description for each in concepts()])
CHANCE = RoleTest("detecting", 0.52, 0.41, 0.63, 80, 3, 0.5, -0.09, {"topic": {"right": 5, "n": 9}})


def test_tests_are_kept_listed_and_forgotten(client: TestClient, engine: Engine) -> None:
    with transaction(engine) as session:
        for key, test in (("a" * 16, GOOD), ("b" * 16, CHANCE)):
            repository.keep_test(session, key, test, "http://h:1/v1", "m", "detection v1")
        repository.keep_test(session, "b" * 16, CHANCE, "http://h:1/v1", "m", "detection v1")
    listed = client.get("/api/v1/judge-tests").json()["items"]
    assert {item["role"] for item in listed} == {"explaining", "detecting"}
    [chance] = client.get("/api/v1/judge-tests", params={"role": "detecting"}).json()["items"]
    assert chance["result"] == asdict(CHANCE.brief()) and chance["result"]["verdict"] == "chance"
    assert "embedding" in chance["warning"] and "n = 80, 3 without" in chance["summary"]
    [good] = client.get("/api/v1/judge-tests", params={"role": "explaining"}).json()["items"]
    assert good["warning"] is None and good["families"]["language"] == {"right": 8, "n": 8}
    assert client.get("/api/v1/judge-tests", params={"model": "other"}).json()["items"] == []
    with transaction(engine) as session:
        assert repository.kept_test(session, "a" * 16) == GOOD
    assert client.delete(f"/api/v1/judge-tests/{'b' * 16}").status_code == 204
    assert client.delete(f"/api/v1/judge-tests/{'b' * 16}").status_code == 404
    assert client.delete("/api/v1/judge-tests/x").status_code == 422


def test_what_heads_a_feature_and_why(client: TestClient, engine: Engine, library: Library) -> None:
    with transaction(engine) as session:
        cleared = add_explanation(session, library, 20, "kings", "Names of kings.", 0.9)
        add_explanation(session, library, 21, "queens", "Names of queens.", 0.55)
        add_explanation(session, library, 22, "popes", "Names of popes.")
        # The best scored explanation need not be the one that clears its shuffled baseline.
        add_explanation(session, library, 20, "rulers", "Rulers of any kind.", 0.5, key="other")
        wide = session.query(Score).filter_by(value=0.5).one()
        wide.value, wide.low, wide.high = 0.97, 0.45, 1.0

    def heading(index: int) -> dict[str, str]:
        shown = client.get(f"{URL}/{index}").json()["heading"]
        listed = client.get(URL, params={"limit": 60}).json()["items"][index]
        assert listed["heading"] == shown and isinstance(shown, dict)
        return shown

    first = heading(20)
    assert (first["text"], first["source"]) == ("kings", "explanation")
    assert first["why"].startswith("detection 0.90 (95 % 0.80 to 1.00; another feature's")
    for index, reason in (
        (21, "clears its shuffled baseline: detection 0.55"),
        (22, "None of its"),
    ):
        label = client.get(f"{URL}/{index}").json()["label"]
        assert (heading(index)["text"], heading(index)["source"]) == (label, "evidence")
        assert reason in heading(index)["why"]
    assert heading(23)["why"] == "It has no explanation."
    near = client.get(f"{URL}/19").json()["neighbours"]["cosine"]
    assert [each["heading"] for each in near][:1] == ["kings"] and near[0]["feature"] == 20
    assert near[1]["explanation"] == "queens" and near[1]["heading"] == near[1]["label"]
    hits = client.get("/api/v1/search", params={"q": "names of kings"}).json()["items"]
    assert hits[0]["index"] == 20 and hits[0]["heading"] == first
    with transaction(engine) as session:
        session.delete(session.get_one(Explanation, (library.sae, cleared)))
    assert heading(20)["source"] == "evidence"


def test_scores_of_before_show_an_unknown_judge(
    client: TestClient, engine: Engine, library: Library
) -> None:
    with transaction(engine) as session:
        old = add_explanation(session, library, 30, "ships", "Words about ships.", 0.9)
        new = add_explanation(session, library, 31, "boats", "Words about boats.", 0.9)
        explanation = session.get_one(Explanation, (library.sae, new))
        explanation.provenance = {**explanation.provenance, "judge_test": asdict(GOOD.brief())}
        [score] = session.query(Score).filter_by(explanation_id=new)
        score.details = {**score.details, "judge_test": asdict(CHANCE.brief())}
    for index, explained, scored in ((30, None, None), (31, GOOD.brief(), CHANCE.brief())):
        page = client.get(f"{URL}/{index}").json()
        [explanation_view] = page["explanations"]
        [score_view] = explanation_view["scores"]
        assert explanation_view["judge_test"] == (asdict(explained) if explained else None)
        assert score_view["judge_test"] == (asdict(scored) if scored else None)
        item = client.get(URL, params={"limit": 60}).json()["items"][index]
        assert item["score"]["judge_test"] == score_view["judge_test"]
    assert old != new
