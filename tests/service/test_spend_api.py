"""The judge's ledger, summed up."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from monosemy.specs import parse_spec
from service.database.judge_tables import JudgeCall
from service.database.key_tables import ApiKey
from service.database.session import transaction
from service.runs.lifecycle import create_run
from tests.support.library_rows import Library

pytestmark = pytest.mark.integration

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def ledger(module_engine: Engine, library: Library) -> dict[str, str]:
    """Two runs of two keys: 3 calls of the first (one failed), 2 of the second (one open)."""
    with transaction(module_engine) as session:
        keys = [
            ApiKey(name=name, prefix="mnsy_x", digest=name, scopes=[]) for name in ("ann", "bo")
        ]
        session.add_all(keys)
        session.flush()
        explain = create_run(
            session, parse_spec({"kind": "explain", "sae": "demo"}), created_by=keys[0].id
        )
        scoring = create_run(
            session,
            parse_spec({"kind": "score", "sae": str(library.sae)}),
            created_by=keys[1].id,
        )

        def call(run: Any, feature: int, purpose: str, state: str, cost: float, day: int) -> None:
            answered = state == "answered"
            session.add(
                JudgeCall(
                    run_id=run.id,
                    feature=feature,
                    purpose=purpose,
                    model="m",
                    state=state,
                    prompt_tokens=100 if answered else 0,
                    cached_tokens=40 if answered else 0,
                    completion_tokens=10 if answered else 0,
                    cost=cost,
                    sent_at=NOON + dt.timedelta(days=day),
                )
            )

        call(explain, 1, "default", "answered", 1.0, 0)
        call(explain, 2, "default", "answered", 1.0, 0)
        call(explain, 2, "default", "failed", 0.0, 1)
        call(scoring, 2, "detection", "answered", 4.0, 1)
        call(scoring, 3, "detection", "sent", 0.5, 2)
        ids = {"explain": str(explain.id), "score": str(scoring.id)}
        ids |= {key.name: str(key.id) for key in keys}
    return ids


def table(client: TestClient, **parameters: str) -> dict[str, Any]:
    answer = client.get("/api/v1/spend", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_calls_are_summed_by_what_is_asked(client: TestClient, ledger: dict[str, str]) -> None:
    groups = {
        by: {item["group"]: (item["calls"], item["cost"]) for item in table(client, by=by)["items"]}
        for by in ("run", "feature", "purpose", "model", "key", "day")
    }
    assert groups["run"] == {ledger["explain"]: (3, 2.0), ledger["score"]: (2, 4.5)}
    assert groups["feature"] == {"1": (1, 1.0), "2": (3, 5.0), "3": (1, 0.5)}
    assert groups["purpose"] == {"default": (3, 2.0), "detection": (2, 4.5)}
    assert groups["model"] == {"m": (5, 6.5)}
    assert groups["key"] == {ledger["ann"]: (3, 2.0), ledger["bo"]: (2, 4.5)}
    assert groups["day"] == {"2026-03-01": (2, 2.0), "2026-03-02": (2, 4.0), "2026-03-03": (1, 0.5)}
    total = table(client)["total"]
    assert (total["answered"], total["failed"], total["unknown"]) == (3, 1, 1)
    assert (total["prompt_tokens"], total["cached_tokens"], total["completion_tokens"]) == (
        300,
        120,
        30,
    )
    names = {item["name"] for item in table(client, by="key")["items"]}
    assert names == {"ann", "bo"}


def test_the_dearest_come_first_and_filters_hold(
    client: TestClient, ledger: dict[str, str]
) -> None:
    assert [item["group"] for item in table(client, by="purpose")["items"]] == [
        "detection",
        "default",
    ]
    one = table(client, by="feature", run=ledger["score"])
    assert [item["group"] for item in one["items"]] == ["2", "3"]
    assert one["total"]["calls"] == 2
    assert table(client, sae="demo")["total"]["calls"] == 5
    later = table(client, since="2026-03-02T00:00:00Z")
    assert later["total"]["calls"] == 3


def test_bad_questions_are_refused(client: TestClient, ledger: dict[str, str]) -> None:
    for parameters, status in (
        ({"by": "colour"}, 422),
        ({"run": "x"}, 422),
        ({"sae": "nobody"}, 404),
        ({"since": "2026-03-02T00:00:00"}, 422),
    ):
        assert client.get("/api/v1/spend", params=parameters).status_code == status
