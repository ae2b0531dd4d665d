"""Judgements one by one, and the way from an explanation back to the text."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from monosemy.interp.prompts.loader import load_prompt
from service.database.session import transaction
from service.database.tables import Explanation, Sae, Score
from tests.support.library_rows import ROW_LENGTH, Library
from tests.support.scored_rows import FAILED, GOOD, POOR, Scored, add_scored

pytestmark = pytest.mark.integration

API = "/api/v1"
FEATURE = f"{API}/saes/demo/features"


@pytest.fixture(scope="module")
def scored(module_engine: Engine, library: Library) -> Scored:
    with transaction(module_engine) as session:
        return add_scored(session, library)


def judgements(client: TestClient, scored: Scored, feature: int, **query: Any) -> Any:
    url = f"{FEATURE}/{feature}/scores/{scored.scores[feature]}/judgements"
    answer = client.get(url, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_every_judgement_has_its_text_truth_and_answer(client: TestClient, scored: Scored) -> None:
    found = judgements(client, scored, GOOD)
    assert len(found["items"]) == found["n"] + found["n_failed"] == 20
    for number, each in enumerate(found["items"]):
        assert each["number"] == number + 1
        window = each["text"]
        assert window["position"] == window["row"] * ROW_LENGTH + 9
        assert window["tokens"] and window["document_name"] == f"Article {window['row'] // 2}"
        assert len(window["tokens"]) == len(window["token_ids"]) == 9 + 1 + 16
        assert window["focus"] == 9 and window["activations"] is None
        assert each["truth"] is (number % 2 == 0)
        assert each["stratum"] == (number // 2 % 10 if each["truth"] else None)
        assert each["failed"] is (number == 19) and (each["right"] is None) is each["failed"]
    shown = client.get(f"{FEATURE}/{GOOD}/scores/{scored.scores[GOOD]}").json()
    assert shown["n"] == 19 and shown["explanation_id"] == str(scored.explanations[GOOD])


def test_judgements_are_paged_and_chosen_by_outcome(client: TestClient, scored: Scored) -> None:
    wrong = judgements(client, scored, POOR, outcome="wrong")["items"]
    assert [each["number"] for each in wrong] == list(range(13, 21))
    assert len(judgements(client, scored, FAILED, outcome="failed")["items"]) == 20
    assert not judgements(client, scored, FAILED, outcome="right")["items"]
    numbers, cursor = [], None
    while True:
        page = judgements(client, scored, POOR, limit=7, **({"cursor": cursor} if cursor else {}))
        numbers += [each["number"] for each in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert numbers == list(range(1, 21))


def test_a_score_of_another_feature_is_not_found(client: TestClient, scored: Scored) -> None:
    for path in (
        f"{FEATURE}/{POOR}/scores/{scored.scores[GOOD]}",
        f"{FEATURE}/{POOR}/scores/{scored.scores[GOOD]}/judgements",
        f"{FEATURE}/{POOR}/scores/{uuid.UUID(int=0)}",
        f"{API}/explanations/{uuid.UUID(int=0)}/provenance",
        f"{API}/prompts/none",
        f"{API}/prompts/detection?version=99",
    ):
        assert client.get(path).status_code == 404, path


@pytest.mark.parametrize(
    "stored",
    [
        None,
        "text",
        [None, 3, "x", []],
        [{}],
        [{"row": "1", "position": None, "truth": "yes", "answer": 1, "value": True, "group": []}],
        [{"row": 10**30, "position": -1, "tier": ["x"], "answer": True}],
        [{"row": 1, "position": 10**9, "tier": "activating", "group": "9" * 50, "value": 1.5}],
    ],
)
def test_stored_judgements_of_any_form_are_read(
    client: TestClient, scored: Scored, module_engine: Engine, stored: Any
) -> None:
    with transaction(module_engine) as session:
        row = session.query(Score).filter_by(id=scored.scores[FAILED]).one()
        before = row.details
        row.details = {**before, "judgements": stored, "parameters": stored}
    try:
        found = judgements(client, scored, FAILED)
        assert all(not each["text"]["tokens"] for each in found["items"])
        for path in ("", f"/scores/{scored.scores[FAILED]}"):
            assert client.get(f"{FEATURE}/{FAILED}{path}").status_code == 200
    finally:
        with transaction(module_engine) as session:
            session.query(Score).filter_by(id=scored.scores[FAILED]).one().details = before


def test_a_score_from_elsewhere_has_no_texts_of_ours(client: TestClient, scored: Scored) -> None:
    given = {
        "scorer": "detection",
        "source": "elsewhere",
        "judgements": [{"activating": i % 2 == 0, "answer": True} for i in range(6)],
    }
    url = f"{API}/explanations/{scored.explanations[GOOD]}/scores"
    made = client.post(url, json=given).json()
    found = client.get(f"{FEATURE}/{GOOD}/scores/{made['id']}/judgements").json()["items"]
    assert len(found) == 6 and not any(each["text"]["tokens"] for each in found)


def test_provenance_leads_back_to_the_text(
    client: TestClient, scored: Scored, library: Library, module_engine: Engine
) -> None:
    with transaction(module_engine) as session:
        sae = session.get_one(Sae, library.sae)
        sae.provenance = {
            "text": {"text_id": "text-demo", "tokens": 1280, "tokens_digest": "abc"},
            "weights": {"digest": "w1"},
            "model": {"fingerprint": "f-demo"},
        }
        sae.index = {**(sae.index or {}), "sae_digest": "w0"}
    found = client.get(f"{API}/explanations/{scored.explanations[GOOD]}/provenance").json()
    prompt = load_prompt("explain_default", 2)
    assert found["prompt"]["hash"] == prompt.hash
    assert [each["text"] for each in found["prompt"]["sections"]] == [
        text for _, text in prompt.sections
    ]
    links = {each["what"]: (each["here"], each["there"]) for each in found["links"]}
    assert links["prompt"] == ("5becc7c2baeb046d", prompt.hash)
    assert links["SAE that was indexed"] == ("w0", "w1")
    assert links["text that was indexed"] == ("text-demo", "text-demo")
    assert links["host model of the SAE"] == ("f-demo", "f-demo")
    assert [each["id"] for each in found["examples"]] == ["e0", "e1", "e2"]
    assert all(each["text"]["tokens"] for each in found["examples"])
    assert "path" not in found["index"] and found["judge"]["model"] == "judge-8b"
    assert client.get(f"{API}/prompts/explain_default").json()["version"] >= 2


@pytest.mark.parametrize(
    "noted",
    [{}, {"examples": "x", "prompt": 3, "judge": [], "evidence": 1}, {"examples": [{"row": None}]}],
)
def test_provenance_of_any_form_is_read(
    client: TestClient, scored: Scored, module_engine: Engine, noted: dict[str, Any]
) -> None:
    identity = scored.explanations[POOR]
    with transaction(module_engine) as session:
        row = session.query(Explanation).filter_by(id=identity).one()
        before, row.provenance = row.provenance, noted
    try:
        found = client.get(f"{API}/explanations/{identity}/provenance")
        assert found.status_code == 200 and found.json()["examples"] == []
    finally:
        with transaction(module_engine) as session:
            session.query(Explanation).filter_by(id=identity).one().provenance = before


def test_a_row_that_is_gone_is_told_as_missing(
    client: TestClient, scored: Scored, module_engine: Engine
) -> None:
    with transaction(module_engine) as session:
        session.execute(text("DELETE FROM contexts WHERE row = 19"))
    found = judgements(client, scored, POOR)["items"]
    assert [not each["text"]["tokens"] for each in found] == [
        each["text"]["row"] == 19 for each in found
    ]
