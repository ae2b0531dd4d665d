"""A judge in trouble, seen from a run: what ends it, what it waits for, and what its events say."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from monosemy.interp.judging.failures import JudgeAway
from service.database.session import transaction
from service.database.tables import Run
from tests.support import run_acts as acts
from tests.support.interp_runs import EXPLAIN, judge
from tests.support.stub_server import Answer, Request, StubServer
from tests.support.trained_library import Trained
from workers import shared_run
from workers.interp import InterpRuns
from workers.shared_run import Absence
from workers.worker import Worker

pytestmark = pytest.mark.integration


def explain(trained: Trained, respond: Callable[[Request], Answer]) -> tuple[Run, list[str]]:
    """The run and its events' messages."""
    with transaction(trained.engine) as session:
        session.execute(text("DELETE FROM explanations"))
        session.execute(text("DELETE FROM judge_answers"))
        session.execute(text("DELETE FROM runs WHERE parent_id IS NULL AND kind <> 'pipeline'"))
    with StubServer(respond=respond) as stub:
        settings = trained.settings.model_copy(
            update={"judge_url": stub.url, "judge_model": "stub", "inference_url": None}
        )
        id_ = acts.submit(trained.engine, EXPLAIN)
        worker = Worker("interp", settings, InterpRuns(settings, trained.engine), trained.engine)
        assert worker._take_one()
    return acts.load(trained.engine, id_), [
        event["message"] for event in acts.events(trained.engine, id_, "log")
    ]


def test_a_quota_that_runs_out_ends_the_run_and_keeps_what_is_done(trained: Trained) -> None:
    asked: list[Request] = []
    spent = {"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}}

    def respond(request: Request) -> Answer:
        asked.append(request)
        return judge(request) if len(asked) <= 2 else Answer(status=429, body=json.dumps(spent))

    run, _ = explain(trained, respond)
    assert run.state == "failed" and run.attempt == 1
    assert "quota" in str(run.error) and "used up" in str(run.error)
    assert len(asked) <= 4, "nothing is asked for again"
    with transaction(trained.engine) as session:
        assert session.scalar(text("SELECT count(*) FROM explanations")) == 2


@pytest.mark.parametrize("body", ["null", "[1, 2]", '{"choices": [{"message": 3}]}'])
def test_replies_of_unexpected_types_fail_their_features_only(
    trained: Trained, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monosemy.interp.judging.calls.random.uniform", lambda low, high: 0.0)
    bad: list[str] = []

    def respond(request: Request) -> Answer:
        prompt = json.dumps(request["messages"])
        if not bad:
            bad.append(prompt)
        return Answer(body=body) if prompt == bad[0] else judge(request)

    run, _ = explain(trained, respond)
    assert run.state == "succeeded", run.error
    assert run.result is not None
    assert (run.result["done"], run.result["failed"]) == (5, 1)
    assert "the body" in str(run.result["failures"])


def test_what_the_endpoint_refuses_is_an_event(trained: Trained) -> None:
    def respond(request: Request) -> Answer:
        if request["messages"][0]["role"] == "system":
            return Answer(status=400, body='{"detail": "System role not supported"}')
        return judge(request)

    run, messages = explain(trained, respond)
    assert run.state == "succeeded", run.error
    [refusal] = [message for message in messages if "system role" in message]
    assert "goes before the user's (HTTP 400: System role not supported)" in refusal


def test_a_judge_that_is_away_is_told_of_and_so_is_its_return(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(shared_run.time, "monotonic", lambda: now[0])
    messages: list[str] = []
    absence = Absence(messages.append)
    away: Any = JudgeAway("The judge failed 5 times (HTTP 429: slow down).", 90.0)
    assert absence.begins(away) is None and absence.begins(away) is None
    assert messages == [
        "the judge is away; it is tried again in 90 s, and given up after 30 min: "
        "The judge failed 5 times (HTTP 429: slow down)."
    ]
    for _ in range(6):
        now[0] += 91
        assert absence.begins(away) is None
    assert len(messages) == 2, "every five minutes"
    absence.ends()
    assert messages[2] == "the judge is back after 546 s"
    absence.ends()
    assert len(messages) == 3
