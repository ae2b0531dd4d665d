"""Explaining and scoring through the worker, with a judge of real HTTP and scripted mind."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text

from monosemy.interp.report.build import build_report
from monosemy.interp.report.table import FeatureScores, scored
from monosemy.specs import parse_spec
from service.database.session import transaction
from service.database.tables import Context, Explanation, Feature, Run, Score
from service.inference.client import InferenceClient
from service.runs import lifecycle
from service.search.embeddings import Embeddings
from service.settings import Settings
from tests.support import run_acts as acts
from tests.support.interp_runs import EXPLAIN, SCORE, SCORING, judge
from tests.support.library_rows import EMBEDDING_WIDTH
from tests.support.patience import SOON, wait_for
from tests.support.stub_server import (
    Answer,
    Request,
    StubServer,
    asked_about,
    error,
    good,
    texts_asked,
)
from tests.support.trained_library import Trained
from tests.support.worker_thread import working
from workers.interp import InterpRuns
from workers.reporter import RunReporter
from workers.worker import Worker

pytestmark = pytest.mark.integration


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with StubServer(respond=judge) as server:
        yield server


@pytest.fixture
def settings(trained: Trained, stub: StubServer) -> Settings:
    with transaction(trained.engine) as session:
        session.execute(text("DELETE FROM explanations"))
        session.execute(text("DELETE FROM runs WHERE parent_id IS NULL AND kind <> 'pipeline'"))
    return trained.settings.model_copy(
        update={"judge_url": stub.url, "judge_model": "stub", "inference_url": None}
    )


def execute(trained: Trained, settings: Settings, spec: dict[str, Any]) -> Run:
    run = acts.submit(trained.engine, spec)
    worker = Worker("interp", settings, InterpRuns(settings, trained.engine), trained.engine)
    assert worker._take_one()
    return acts.load(trained.engine, run)


def explanations(trained: Trained) -> list[Explanation]:
    with transaction(trained.engine) as session:
        return list(session.scalars(select(Explanation).order_by(Explanation.feature)))


def scores(trained: Trained) -> list[Score]:
    with transaction(trained.engine) as session:
        return list(session.scalars(select(Score)))


def test_explanations_are_stored_with_their_provenance(
    trained: Trained, settings: Settings
) -> None:
    run = execute(trained, settings, EXPLAIN)
    assert run.state == "succeeded", run.error
    result, stored = run.result, explanations(trained)
    assert result is not None
    assert result["features"] == [row.feature for row in stored] and len(stored) == 6
    assert (result["done"], result["skipped"], result["failed"]) == (6, 0, 0)
    assert result["usage"]["calls"] >= 6 and result["usage"]["prompt_tokens"] >= 600
    assert [stage["stage"] for stage in run.stages] == ["explain"]
    assert run.stages[0]["unit"] == "features"
    for row in stored:
        assert row.run_id == run.id and row.sae_id == trained.sae.id
        assert row.judge == "stub" and row.explainer == "default"
        assert row.label.startswith("topic") and row.text.startswith("Sentences")
        assert row.embedding is None  # no inference server
        assert row.provenance["confidence"] == "medium"
        assert row.provenance["prompt"] and row.provenance["examples"]


def test_the_same_work_is_done_once(trained: Trained, settings: Settings, stub: StubServer) -> None:
    execute(trained, settings, EXPLAIN)
    before, asked = [row.id for row in explanations(trained)], len(stub.requests)
    again = execute(trained, settings, EXPLAIN)
    assert again.state == "succeeded" and again.result is not None
    assert (again.result["done"], again.result["skipped"]) == (0, 6)
    assert len(stub.requests) == asked
    other = {**EXPLAIN, "explanation": {**EXPLAIN["explanation"], "examples": 3}}
    execute(trained, settings, other)
    after = explanations(trained)
    assert len(after) == 12 and {row.id for row in after} > set(before)


def test_a_feature_without_a_usable_answer_is_listed(
    trained: Trained, settings: Settings, stub: StubServer
) -> None:
    stub.script = [good(label="x")] * 5  # what is asked about the first feature, five times
    spec = {**EXPLAIN["explanation"], "judge": {"concurrency": 1}}
    run = execute(trained, settings, {**EXPLAIN, "explanation": spec})
    assert run.state == "succeeded" and run.result is not None
    assert (run.result["done"], run.result["failed"]) == (5, 1)
    (reason,) = run.result["failures"].values()
    assert "no usable answer" in reason
    assert len(explanations(trained)) == 5


def test_a_judge_of_no_use_at_all_fails_the_run(
    trained: Trained, settings: Settings, stub: StubServer
) -> None:
    stub.respond = lambda request: good(label="x")
    run = execute(trained, settings, EXPLAIN)
    assert (run.state, run.attempt) == ("failed", 1)
    assert "None of 6 features could be done" in str(run.error)
    stub.respond = lambda request: error(401, "bad key")
    refused = execute(trained, settings, EXPLAIN)
    assert refused.state == "failed" and "401" in str(refused.error)
    assert explanations(trained) == []


@pytest.mark.parametrize(
    ("spec", "changes", "words"),
    [
        (EXPLAIN, {"judge_url": None}, "MONOSEMY_JUDGE_URL"),
        (SCORE, {}, "Submit an explain run"),
        ({**EXPLAIN, "sae": "nothing"}, {}, "no SAE 'nothing'"),
    ],
)
def test_what_is_missing_is_said_with_advice(
    trained: Trained,
    settings: Settings,
    spec: dict[str, Any],
    changes: dict[str, Any],
    words: str,
) -> None:
    run = execute(trained, settings.model_copy(update=changes), spec)
    assert (run.state, run.attempt) == ("failed", 1)
    assert words in str(run.error)


def test_texts_that_were_shown_and_judged_are_kept(
    trained: Trained, settings: Settings, stub: StubServer
) -> None:
    del stub
    with transaction(trained.engine) as session:
        before = [vars(row).copy() for row in session.query(Context)]
        session.query(Context).delete()
    try:
        execute(trained, settings, EXPLAIN)
        execute(trained, settings, SCORE)
        with transaction(trained.engine) as session:
            kept = {row.row: row for row in session.query(Context)}
            said = session.query(Explanation).filter_by(sae_id=trained.sae.id).all()
            shown = {each["row"] for row in said for each in row.provenance["examples"]}
        judged = {each["row"] for score in scores(trained) for each in score.details["judgements"]}
        assert shown and judged and shown | judged == set(kept)
        stored = {row["row"]: row for row in before}
        for number in set(kept) & set(stored):
            for name in ("start", "document", "token_ids", "text_id"):
                assert getattr(kept[number], name) == stored[number][name]
    finally:
        with transaction(trained.engine) as session:
            session.query(Context).delete()
            session.add_all(
                Context(**{name: value for name, value in row.items() if name[0] != "_"})
                for row in before
            )


def test_scores_come_with_interval_and_baseline(
    trained: Trained, settings: Settings, stub: StubServer
) -> None:
    execute(trained, settings, EXPLAIN)
    run = execute(trained, settings, SCORE)
    assert run.state == "succeeded", run.error
    result, stored = run.result, scores(trained)
    assert result is not None and len(stored) == 6 == result["done"] == result["scored"]
    for score in stored:
        assert score.metric == "balanced_accuracy" and score.scorer == "detection"
        assert score.value is not None and score.low is not None and score.high is not None
        assert 0 <= score.low <= score.value <= score.high <= 1
        assert score.n == 8 and score.n_failed == 0
        assert score.baseline is not None and score.details["baseline"]["n"] == 8
        assert len(score.details["judgements"]) == 8
    values = [score.value for score in stored]
    gains = [score.value - score.baseline for score in stored]
    assert result["mean_value"] == pytest.approx(sum(values) / 6)
    assert result["mean_gain"] == pytest.approx(sum(gains) / 6)
    assert result["mean_low"] <= result["mean_value"] <= result["mean_high"]
    assert result["gain_low"] <= result["mean_gain"] <= result["gain_high"]
    asked = len(stub.requests)
    again = execute(trained, settings, SCORE)
    assert again.result is not None and again.result["skipped"] == 6
    assert again.result["mean_value"] == result["mean_value"]
    assert len(stub.requests) == asked and len(scores(trained)) == 6


def test_the_empty_baseline_is_stored_with_the_score(
    trained: Trained, settings: Settings, stub: StubServer
) -> None:
    execute(trained, settings, EXPLAIN)
    run = execute(trained, settings, {**SCORE, "scoring": {**SCORING, "empty_baseline": True}})
    assert run.state == "succeeded", run.error
    for score in scores(trained):
        empty = score.details["empty"]
        assert empty["n"] == 8 and empty["low"] <= empty["value"] <= empty["high"]
    asked = [asked_about(request) for request in stub.requests if texts_asked(request)]
    assert asked.count("(no explanation)") == len(asked) / 3
    assert_rows_make_a_report(trained)
    execute(trained, settings, SCORE)  # without it: another score, under another key
    assert len(scores(trained)) == 12


def assert_rows_make_a_report(trained: Trained) -> None:
    """Scores as the database has them are what a report takes."""
    by_id = {row.id: row for row in explanations(trained)}
    names = ("scorer", "metric", "value", "low", "high", "n", "n_failed", "details")
    stored = scores(trained)
    table = [
        FeatureScores(
            by_id[row.explanation_id].feature,
            by_id[row.explanation_id].text,
            {row.scorer: scored({name: getattr(row, name) for name in names})},
        )
        for row in stored
    ]
    section = build_report(table)["scorers"]["detection"]
    assert section["features"] == len(stored) == 6
    assert list(section["series"]) == ["own", "shuffled", "empty"]
    values = [row.value for row in stored if row.value is not None]
    assert section["series"]["own"]["mean"]["value"] == pytest.approx(sum(values) / 6)
    calls = [row.details["usage"]["calls"] for row in stored]
    assert section["cost"]["own"]["calls"] == pytest.approx(sum(calls) / 6)


def test_only_unscored_explanations_are_scored(trained: Trained, settings: Settings) -> None:
    execute(trained, settings, EXPLAIN)
    execute(trained, settings, SCORE)
    with transaction(trained.engine) as session:
        lost = session.scalars(select(Score)).first()
        session.delete(lost)
    run = execute(trained, settings, SCORE)
    assert run.result is not None
    assert (run.result["done"], run.result["skipped"], run.result["scored"]) == (1, 5, 6)
    other = {**SCORE, "scoring": {**SCORING, "seed": 1}}
    assert execute(trained, settings, other).result["done"] == 6  # type: ignore[index]
    assert len(scores(trained)) == 12


def test_a_worker_stops_while_a_judge_takes_its_time(
    trained: Trained, settings: Settings, stub: StubServer
) -> None:
    """What has arrived is kept; the next worker asks for the rest only."""
    one = {**EXPLAIN["explanation"], "judge": {"concurrency": 1}}

    def slow_after_two(request: Request) -> Answer:
        answer = judge(request)
        answer.delay = 30.0 if len(stub.requests) > 2 else 0.0
        return answer

    stub.respond = slow_after_two
    run = acts.submit(trained.engine, {**EXPLAIN, "explanation": one})
    with working(trained.engine, settings, InterpRuns(settings, trained.engine), "interp") as w:
        wait_for(lambda: len(stub.requests) == 3)
        began = time.monotonic()
        w.stop()
    assert time.monotonic() - began < SOON
    back = acts.load(trained.engine, run)
    assert (back.state, back.attempt) == ("queued", 0)
    kept = explanations(trained)
    assert len(kept) == 2
    stub.respond = judge
    worker = Worker("interp", settings, InterpRuns(settings, trained.engine), trained.engine)
    assert worker._take_one()
    done = acts.load(trained.engine, run)
    assert done.result is not None
    assert (done.state, done.result["done"], done.result["skipped"]) == ("succeeded", 6, 0)
    assert {row.id for row in explanations(trained)} > {row.id for row in kept}


class Inference:
    """Embeds as long as it is there."""

    def __init__(self, width: int = EMBEDDING_WIDTH) -> None:
        self.there, self.width = True, width
        self.asked: list[list[str]] = []

    def client(self) -> InferenceClient:
        return InferenceClient("http://inference.test", httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        texts = json.loads(request.content)["texts"]
        self.asked.append(texts)
        if not self.there:
            raise httpx.ConnectError("refused", request=request)
        vectors = [
            [1.0 if i == len(t) % self.width else 0.0 for i in range(self.width)] for t in texts
        ]
        return httpx.Response(200, json={"embeddings": vectors})


def test_explanations_are_embedded_when_the_run_ends_or_later(
    trained: Trained, settings: Settings
) -> None:
    inference = Inference()
    runs = InterpRuns(settings, trained.engine)
    runs.embeddings = Embeddings(trained.engine, inference.client(), EMBEDDING_WIDTH)
    worker = Worker("interp", settings, runs, trained.engine)

    inference.there = False
    acts.submit(trained.engine, EXPLAIN)
    assert worker._take_one()
    assert [row.embedding for row in explanations(trained)] == [None] * 6
    assert len(inference.asked) == 1  # at the end, all together

    inference.there = True
    acts.submit(
        trained.engine, {**EXPLAIN, "explanation": {**EXPLAIN["explanation"], "examples": 3}}
    )
    assert worker._take_one()
    stored = explanations(trained)
    assert len(stored) == 12  # six new ones, six found without
    for row in stored:
        assert row.embedding is not None
        place = len(f"{row.label}. {row.text}") % EMBEDDING_WIDTH
        assert row.embedding[place] == 1.0


def test_an_embedder_of_another_width_is_not_stored(trained: Trained, settings: Settings) -> None:
    runs = InterpRuns(settings, trained.engine)
    runs.embeddings = Embeddings(trained.engine, Inference(width=768).client(), EMBEDDING_WIDTH)
    run = acts.submit(trained.engine, EXPLAIN)
    Worker("interp", settings, runs, trained.engine)._take_one()
    assert acts.load(trained.engine, run).state == "succeeded"
    assert [row.embedding for row in explanations(trained)] == [None] * 6


def test_the_gap_is_filled_in_batches(trained: Trained, settings: Settings) -> None:
    with transaction(trained.engine) as session:
        for number in range(150):
            session.add(
                Explanation(
                    id=uuid.uuid4(),
                    sae_id=trained.sae.id,
                    feature=number % 64,
                    explainer="default",
                    key=str(number),
                    text=f"explanation {number}",
                    label="label",
                    judge="stub",
                    provenance={},
                )
            )
    inference = Inference()
    run = acts.submit(trained.engine, EXPLAIN)
    reporter = RunReporter(trained.engine, run, "nobody", lambda: None)
    filled = Embeddings(trained.engine, inference.client(), EMBEDDING_WIDTH).fill(
        trained.sae.id, reporter
    )
    assert filled == 150 and [len(texts) for texts in inference.asked] == [64, 64, 22]
    assert all(row.embedding is not None for row in explanations(trained))


def test_a_dry_run_tells_the_cost_and_does_nothing(
    trained: Trained, settings: Settings, stub: StubServer
) -> None:
    priced = settings.model_copy(update={"judge_price_input": 1.0, "judge_price_output": 2.0})
    run = execute(trained, priced, {**EXPLAIN, "dry_run": True})
    assert run.state == "succeeded", run.error
    assert run.result is not None
    wanted = run.result["forecast"]
    assert (wanted["features"], wanted["calls"]) == (6, 6)
    assert wanted["calibrated"] and wanted["cost"] > 0
    assert "6 features" in run.result["summary"]
    assert not explanations(trained)
    assert len(stub.requests) <= 3
    execute(trained, priced, EXPLAIN)
    again = execute(trained, priced, {**EXPLAIN, "dry_run": True})
    assert again.state == "failed", "nothing is left to explain"
    scoring = execute(trained, priced, {**SCORE, "dry_run": True})
    assert scoring.state == "succeeded", scoring.error
    assert scoring.result is not None
    # 8 texts in calls of 4, for its own explanation and for a borrowed one.
    assert (scoring.result["forecast"]["features"], scoring.result["forecast"]["calls"]) == (6, 24)
    assert not scores(trained)
    free = {**SCORE, "dry_run": True, "scoring": {**SCORING, "scorer": "example_embedding"}}
    assert parse_spec(free)


DISCRIMINATION = {**SCORE, "scoring": {**SCORING, "scorer": "discrimination"}}


def test_explanations_are_told_from_the_nearest_ones(trained: Trained, settings: Settings) -> None:
    runs = InterpRuns(settings, trained.engine)
    runs.embeddings = Embeddings(trained.engine, Inference().client(), EMBEDDING_WIDTH)
    acts.submit(trained.engine, EXPLAIN)
    assert Worker("interp", settings, runs, trained.engine)._take_one()
    explained = {row.feature for row in explanations(trained)}
    run = execute(trained, settings, DISCRIMINATION)
    assert run.state == "succeeded", run.error
    by_explanation = {row.id: row.feature for row in explanations(trained)}
    stored = scores(trained)
    assert len(stored) == 6
    for score in stored:
        assert score.scorer == "discrimination" and score.n + score.n_failed >= 5
        own = by_explanation[score.explanation_id]
        near = {int(name.split()[1]) for name in score.details["neighbours"]}
        assert near and near <= explained - {own}
        tiers = {judgement["tier"] for judgement in score.details["judgements"]}
        assert tiers == {"activating", "nearest_explanations"}
        assert score.baseline is not None


def test_more_explanations_make_telling_them_apart_other_work(
    trained: Trained, settings: Settings
) -> None:
    runs = InterpRuns(settings, trained.engine)
    runs.embeddings = Embeddings(trained.engine, Inference().client(), EMBEDDING_WIDTH)

    def explain(spec: dict[str, Any]) -> None:
        acts.submit(trained.engine, spec)
        assert Worker("interp", settings, runs, trained.engine)._take_one()

    explain(EXPLAIN)
    first, again = (execute(trained, settings, DISCRIMINATION).result for _ in range(2))
    assert first and again and (first["done"], again["done"], again["skipped"]) == (6, 0, 6)
    explain({**EXPLAIN, "explanation": {**EXPLAIN["explanation"], "examples": 3}})
    later = execute(trained, settings, DISCRIMINATION).result
    assert later and later["done"] == 6, "told from other neighbours now"


def test_without_embeddings_nobody_is_nearest(trained: Trained, settings: Settings) -> None:
    execute(trained, settings, EXPLAIN)
    run = execute(trained, settings, DISCRIMINATION)
    assert run.state == "failed" and "no embedding" in str(run.error)


# -------------------------------------------------------------------- what cannot be done
def named(*features: int, **options: Any) -> dict[str, Any]:
    features_ = {"indices": list(features)}
    return {**EXPLAIN, "explanation": {"features": features_, "examples": 4, **options}}


def live(trained: Trained, count: int) -> list[int]:
    """Features that fire often."""
    with transaction(trained.engine) as session:
        query = select(Feature.index).where(Feature.sae_id == trained.sae.id)
        return list(session.scalars(query.order_by(Feature.postings.desc()).limit(count)))


def test_features_that_do_not_exist_hold_up_no_other(trained: Trained, settings: Settings) -> None:
    first, second = live(trained, 2)
    run = execute(trained, settings, named(first, 64, second, 2**31 - 1))
    assert run.state == "succeeded" and run.result is not None, run.error
    assert (run.result["done"], run.result["failed"]) == (2, 2)
    assert run.result["failures"] == {
        "64": "There is no feature 64: the SAE has 0 to 63.",
        "2147483647": "There is no feature 2147483647: the SAE has 0 to 63.",
    }
    nothing = execute(trained, settings, named(64, 65))
    assert nothing.state == "failed" and nothing.attempt == 1
    assert "None of 2 features could be done. 64: There is no feature 64" in str(nothing.error)


def test_scoring_names_what_has_nothing_to_score(trained: Trained, settings: Settings) -> None:
    first, second, without = live(trained, 3)
    execute(trained, settings, named(first, second))
    run = execute(trained, settings, {**SCORE, "features": [first, without, 64]})
    assert run.state == "succeeded" and run.result is not None, run.error
    assert (run.result["done"], run.result["failed"]) == (1, 2)
    assert run.result["failures"] == {
        str(without): "It has no explanation to score.",
        "64": "There is no feature 64: the SAE has 0 to 63.",
    }
    nothing = execute(trained, settings, {**SCORE, "features": [without, 64]})
    assert nothing.state == "failed"
    assert f"{without}: It has no explanation to score." in str(nothing.error)
    assert len(scores(trained)) == 1
    # Explained meanwhile: taken up again, the run has something to do.
    execute(trained, settings, named(without))
    with transaction(trained.engine) as session:
        lifecycle.retry_run(session, session.get_one(Run, nothing.id))
    worker = Worker("interp", settings, InterpRuns(settings, trained.engine), trained.engine)
    assert worker._take_one()
    again = acts.load(trained.engine, nothing.id)
    assert again.state == "succeeded" and again.result is not None, again.error
    assert (again.result["done"], again.result["failed"]) == (1, 1)


def test_an_explanation_of_another_feature_is_not_scored(
    trained: Trained, settings: Settings
) -> None:
    first, second = live(trained, 2)
    execute(trained, settings, named(first, second))
    of_first = next(row for row in explanations(trained) if row.feature == first)
    asked = {**SCORE, "features": [second], "explanation": str(of_first.id)}
    run = execute(trained, settings, asked)
    assert run.state == "failed" and "is not of this feature" in str(run.error)
    with transaction(trained.engine) as session:
        session.execute(text("DELETE FROM explanations WHERE id = :id"), {"id": of_first.id})
    gone = execute(trained, settings, {**SCORE, "explanation": str(of_first.id)})
    assert gone.state == "failed" and "gone" in str(gone.error)


def test_a_budget_that_allows_nothing_is_no_success(trained: Trained, settings: Settings) -> None:
    (first,) = live(trained, 1)
    priced = {"price": {"input": 1e6, "output": 1e6}, "budget": 1e-6}
    run = execute(trained, settings, named(first, judge=priced))
    assert run.state == "failed" and "budget" in str(run.error)
