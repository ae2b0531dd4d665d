"""A run tests a judge that it does not know: once, in its own ledger and budget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from service.database.judge_tables import JudgeCall, JudgeTest, Spend
from service.database.session import transaction
from service.database.tables import Explanation, Run, RunEvent, Score
from service.judge_tests import repository
from service.settings.settings import Settings
from tests.support import run_acts as acts
from tests.support.interp_runs import EXPLAIN, SCORE, judge
from tests.support.planted_judge import PlantedJudge, is_planted
from tests.support.stub_server import Answer, Request, StubServer
from tests.support.trained_library import Trained
from workers.interp import InterpRuns
from workers.worker import Worker

pytestmark = pytest.mark.integration


class Mind:
    """Planted questions by ``planted``, all others as other tests have them answered."""

    def __init__(self) -> None:
        self.planted = PlantedJudge()
        self.tested = 0

    def __call__(self, request: Request) -> Answer:
        if is_planted(request):
            self.tested += 1
            return self.planted(request)
        return judge(request)


@pytest.fixture
def mind() -> Mind:
    return Mind()


@pytest.fixture
def stub(mind: Mind) -> Iterator[StubServer]:
    with StubServer(respond=mind) as server:
        yield server


@pytest.fixture
def settings(trained: Trained, stub: StubServer) -> Settings:
    with transaction(trained.engine) as session:
        session.execute(delete(Explanation))
        session.execute(delete(JudgeTest))
        session.execute(text("DELETE FROM runs WHERE parent_id IS NULL AND kind <> 'pipeline'"))
    given = {"judge_url": stub.url, "judge_model": "stub", "inference_url": None}
    return trained.settings.model_copy(update={**given, "judge_test": "warn"})


def execute(trained: Trained, settings: Settings, spec: dict[str, Any]) -> Run:
    run = acts.submit(trained.engine, spec)
    worker = Worker("interp", settings, InterpRuns(settings, trained.engine), trained.engine)
    assert worker._take_one()
    return acts.load(trained.engine, run)


def calls(trained: Trained, run: Run) -> dict[str, int]:
    """Calls in the run's ledger by purpose."""
    with transaction(trained.engine) as session:
        purposes = session.scalars(select(JudgeCall.purpose).where(JudgeCall.run_id == run.id))
        listed = list(purposes)
    return {purpose: listed.count(purpose) for purpose in listed}


def told(session: Session, run: Run) -> list[dict[str, Any]]:
    """Events of a run about its judge's test."""
    query = select(RunEvent.data).where(RunEvent.run_id == run.id).order_by(RunEvent.id)
    return [data for data in session.scalars(query) if "judge_test" in data]


def kept(trained: Trained) -> list[JudgeTest]:
    with transaction(trained.engine) as session:
        return list(repository.tests_of(session))


def test_the_first_run_tests_its_judge_and_the_next_one_does_not(
    trained: Trained, settings: Settings, mind: Mind
) -> None:
    mind.planted = PlantedJudge(detects=0.5)
    first = execute(trained, settings, EXPLAIN)
    assert first.state == "succeeded", first.error
    assert calls(trained, first)["judge_test"] == mind.tested == 40
    assert first.result is not None and first.result["judge_test"]["verdict"] == "good"
    with transaction(trained.engine) as session:
        [event] = told(session, first)
        explanation = session.scalars(select(Explanation)).first()
        assert explanation is not None and explanation.judge_test is not None
        assert explanation.judge_test["role"] == "explaining"
        assert explanation.judge_test["n"] == 40
        spent = session.get_one(Spend, first.id)
        assert spent.calls == sum(calls(trained, first).values())
    assert "explains well" in event["message"]
    [row] = kept(trained)
    assert (row.role, row.model, row.prompt, row.run_id) == (
        "explaining",
        "stub",
        "explain_default v2",
        first.id,
    )

    scored = execute(trained, settings, SCORE)
    assert scored.state == "succeeded" and scored.result is not None
    assert calls(trained, scored)["judge_test"] == 20 and mind.tested == 60
    assert scored.result["judge_test"]["verdict"] == "chance"
    with transaction(trained.engine) as session:
        [warning] = told(session, scored)
        for score in session.scalars(select(Score)):
            assert score.judge_test is not None and score.judge_test["verdict"] == "chance"
    assert "at chance" in warning["message"] and "embedding" in warning["message"]

    again = execute(trained, settings, {**SCORE, "scoring": {**SCORE["scoring"], "seed": 5}})
    assert again.state == "succeeded" and mind.tested == 60
    assert "judge_test" not in calls(trained, again) and len(kept(trained)) == 2
    assert again.result is not None
    assert again.result["judge_test"] == scored.result["judge_test"]


def test_a_required_test_ends_the_run_before_it_asks(
    trained: Trained, settings: Settings, mind: Mind, stub: StubServer
) -> None:
    execute(trained, settings, EXPLAIN)
    mind.planted = PlantedJudge(constant=True)
    before = len(stub.requests)
    required = {**SCORE["scoring"], "judge": {"test": "require"}}
    run = execute(trained, settings, {**SCORE, "scoring": required})
    assert run.state == "succeeded" and run.result is not None
    assert len(stub.requests) - before == 20 and calls(trained, run)["judge_test"] == 20
    assert run.result["done"] == 0 and run.result["left"] > 0 and run.result["scored"] == 0
    assert "at chance" in run.result["stopped"] and "MONOSEMY_JUDGE_URL" in run.result["stopped"]
    again = execute(trained, settings, {**SCORE, "scoring": required})
    assert again.state == "succeeded" and len(stub.requests) - before == 20

    embedded = {**SCORE["scoring"], "judge": {"test": "skip"}}
    skipped = execute(trained, settings, {**SCORE, "scoring": embedded})
    assert skipped.result is not None and "judge_test" not in skipped.result
    with transaction(trained.engine) as session:
        assert all(score.judge_test is None for score in session.scalars(select(Score)))


def test_a_budget_that_ends_within_the_test_ends_the_run(
    trained: Trained, settings: Settings, mind: Mind
) -> None:
    price = {"input": 1000.0, "output": 1000.0}
    judged = {"budget": 4.0, "price": price}
    spec = {**EXPLAIN, "explanation": {**EXPLAIN["explanation"], "judge": judged}}
    run = execute(trained, settings, spec)
    assert run.state == "failed" and "budget" in str(run.error)
    assert 0 < mind.tested < 40 and kept(trained) == []
    with transaction(trained.engine) as session:
        assert 0 < session.get_one(Spend, run.id).cost <= 4.0
        assert session.scalars(select(Explanation)).first() is None

    first = mind.tested
    larger = {**judged, "budget": 1000.0}
    spec = {**EXPLAIN, "explanation": {**EXPLAIN["explanation"], "judge": larger}}
    assert execute(trained, settings, spec).state == "succeeded"
    assert mind.tested == 40 and first < 40  # what was answered was not asked again
    assert len(kept(trained)) == 1


def test_a_forecast_counts_the_test_until_it_is_made(
    trained: Trained, settings: Settings, mind: Mind
) -> None:
    dry = {**EXPLAIN, "dry_run": True}
    run = execute(trained, settings, dry)
    assert run.state == "succeeded" and run.result is not None, run.error
    assert run.result["forecast"]["judge_test_calls"] == 40
    assert "40 of them test the judge" in run.result["summary"]
    assert mind.tested <= 6  # a few, with room for one token, to learn how the endpoint counts
    with_test = run.result["forecast"]["calls"]
    spec = {**EXPLAIN, "explanation": {**EXPLAIN["explanation"], "features": {"indices": [0]}}}
    assert execute(trained, settings, spec).state in ("succeeded", "failed")
    assert len(kept(trained)) == 1
    after = execute(trained, settings, dry)
    assert after.result is not None and after.result["forecast"]["judge_test_calls"] == 0
    assert after.result["forecast"]["calls"] <= with_test - 40
