"""Scores that another tool came to: summed up as ours, listed apart, stored once."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.support.library_rows import Library

pytestmark = pytest.mark.integration

API = "/api/v1"
JUDGEMENTS = [
    *({"activating": True, "answer": i < 15, "stratum": i % 10} for i in range(20)),
    *({"activating": False, "answer": i < 5} for i in range(25)),
    {"activating": False, "answer": None},
]


@pytest.fixture
def explanation(client: TestClient, library: Library) -> str:
    path = f"{API}/saes/demo/features/17/explanations"
    return str(client.post(path, json={"text": f"Said {uuid.uuid4()}."}).json()["id"])


def give(client: TestClient, explanation: str, **changes: Any) -> Any:
    body = {"scorer": "detection", "source": "delphi", "judgements": JUDGEMENTS, **changes}
    return client.post(f"{API}/explanations/{explanation}/scores", json=body)


def test_judgements_are_summed_up_as_ours_are(client: TestClient, explanation: str) -> None:
    answer = give(client, explanation)
    assert answer.status_code == 201, answer.text
    score = answer.json()
    assert (score["scorer"], score["metric"]) == ("detection:delphi", "balanced_accuracy")
    assert score["value"] == pytest.approx((15 / 20 + 20 / 25) / 2)
    assert score["low"] < score["value"] < score["high"]
    assert (score["n"], score["n_failed"]) == (45, 1)
    details = score["details"]
    assert details["confusion"] == {
        "true_positives": 15,
        "false_negatives": 5,
        "true_negatives": 20,
        "false_positives": 5,
    }
    assert details["imported"] == {"source": "delphi"} and len(details["judgements"]) == 46
    assert details["worst_case"] == pytest.approx((15 / 20 + 20 / 26) / 2)
    assert details["recall_by_group"]["0"]["value"] == 1.0


def test_equal_ones_are_one_and_others_are_others(client: TestClient, explanation: str) -> None:
    first, again = give(client, explanation).json(), give(client, explanation).json()
    other = give(client, explanation, scorer="fuzzing").json()
    assert first["id"] == again["id"] != other["id"]
    assert other["scorer"] == "fuzzing:delphi"
    shown = client.get(f"{API}/explanations/{explanation}").json()["scores"]
    assert {each["id"] for each in shown} == {first["id"], other["id"]}


def test_one_class_alone_has_no_value(client: TestClient, explanation: str) -> None:
    score = give(client, explanation, judgements=JUDGEMENTS[:20]).json()
    assert score["value"] is None and score["n"] == 20


@pytest.mark.parametrize(
    "wrong",
    [
        {"scorer": "simulation"},
        {"source": "../etc"},
        {"source": "A b"},
        {"judgements": []},
        {"judgements": [{"activating": "perhaps"}]},
        {"judgements": [{"activating": True, "stratum": 10**9}]},
        {"judgements": [{"activating": True}] * 5001},
        {"value": 0.9},
    ],
)
def test_what_is_no_score_is_refused(
    client: TestClient, explanation: str, wrong: dict[str, Any]
) -> None:
    assert give(client, explanation, **wrong).status_code == 422
    assert client.get(f"{API}/explanations/{explanation}").json()["scores"] == []
    assert give(client, str(uuid.uuid4())).status_code == 404
