"""Explain and score runs that have the host model run, through the GPU worker."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from sqlalchemy import select, text

from monosemy.hosted_sae import HostedSAE
from monosemy.interp.scorers.detection import DetectionScorer
from monosemy.interp.texts import FeatureTexts
from monosemy.interp.token_change import gains
from monosemy.interp.tools import Tools
from monosemy.interventions.effects import PromptEffects
from monosemy.models.host import HostModel
from monosemy.sae_folder import SaeFolder
from monosemy.specs import SCORERS, Need, ScoringSpec, register
from monosemy.workspace import Workspace
from service.database.session import transaction
from service.database.tables import Explanation, Run, Score
from service.settings import Settings
from tests.support import run_acts as acts
from tests.support.stub_server import Answer, Request, StubServer, good, texts_asked
from tests.support.trained_library import SITE, Trained
from workers.gpu import GpuRuns
from workers.interp import InterpRuns
from workers.interpretation import Interpretation
from workers.worker import Worker

pytestmark = pytest.mark.integration

FEATURES = {"count": 3, "min_postings": 20, "max_density": 1.0}
OUTPUT = {"explainer": "output_centric", "token_change": True, "features": FEATURES}
EXPLAIN = {"kind": "explain", "sae": "tiny", "explanation": OUTPUT}


def judge(request: Request) -> Answer:
    texts = texts_asked(request)
    if texts:
        return good(**dict.fromkeys(texts, True))
    number = zlib.crc32(json.dumps(request["messages"]).encode()) % 10_000
    return good(
        label=f"topic {number}",
        explanation=f"Sentences which concern subject number {number} and its surroundings.",
        confidence="low",
    )


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


def execute(trained: Trained, settings: Settings, spec: dict[str, Any], queue: str = "gpu") -> Run:
    run = acts.submit(trained.engine, spec)
    assert acts.load(trained.engine, run).queue == queue
    runs = {"gpu": GpuRuns, "interp": InterpRuns}[queue](settings, trained.engine)
    worker = Worker(queue, settings, runs, trained.engine)
    assert worker._take_one()
    done = acts.load(trained.engine, run)
    assert done.state == "succeeded", done.error
    return done


@pytest.fixture
def hosted(trained: Trained) -> HostedSAE:
    workspace = Workspace(trained.settings.artifacts)
    folder = SaeFolder(workspace.locate(trained.sae.path), workspace)
    host = HostModel.load(folder.spec.model, workspace)
    return folder.hosted(host)


def texts_of(trained: Trained, settings: Settings) -> FeatureTexts:
    interpretation = Interpretation(settings, trained.engine, None)  # type: ignore[arg-type]
    return interpretation._texts("tiny")[1]


def listed(request: Request, name: str) -> list[str]:
    (line,) = [
        line
        for line in request["messages"][-1]["content"].splitlines()
        if line.startswith(f"{name}: ")
    ]
    return list(json.loads(line.removeprefix(f"{name}: ")))


def test_the_judge_is_told_what_the_host_model_would_write(
    trained: Trained, settings: Settings, stub: StubServer, hosted: HostedSAE
) -> None:
    run = execute(trained, settings, EXPLAIN)
    assert run.result is not None and (run.result["done"], run.result["failed"]) == (3, 0)
    prompts = texts_of(trained, settings)._prompts
    assert len(prompts) == 16 and all(0 < len(prompt) <= 16 for prompt in prompts)
    effects = PromptEffects(hosted, prompts)
    with transaction(trained.engine) as session:
        stored = list(session.scalars(select(Explanation).order_by(Explanation.feature)))
    shown = [listed(request, "likelier in context") for request in stub.requests]
    for row in stored:
        assert row.provenance["kind"] == "output"
        parameters = row.provenance["parameters"]
        assert parameters["token_change"] is True and parameters["prompts"] == 16
        addition, _ = effects.tuned(row.feature, 1.0)
        gain_V = gains(effects.predictions(addition), effects.clean)
        pieces = hosted.host.token_bytes().whole(gain_V.topk(30).indices.tolist()) or []
        expected = [piece for piece in pieces if piece.strip()][:8]
        assert any(words[: len(expected)] == expected for words in shown)
    # The same work is done once, and what the index alone tells is other work.
    again = execute(trained, settings, EXPLAIN)
    assert again.result is not None and again.result["skipped"] == 3
    without = {**EXPLAIN, "explanation": {**OUTPUT, "token_change": False}}
    other = execute(trained, settings, without, queue="interp")
    assert other.result is not None and other.result["done"] == 3
    assert listed(stub.requests[-1], "likelier in context") == []


def test_a_dry_run_runs_the_host_model_and_asks_nobody(
    trained: Trained, settings: Settings, stub: StubServer
) -> None:
    run = execute(trained, settings, {**EXPLAIN, "dry_run": True})
    assert run.result is not None and run.result["forecast"]["calls"] == 3
    with transaction(trained.engine) as session:
        assert session.scalars(select(Explanation)).first() is None
    weighed = [listed(request, "likelier in context") for request in stub.requests]
    assert weighed and all(weighed), "what is weighed holds the words"
    assert all(request["max_tokens"] == 1 for request in stub.requests)


class HostedDetectionScorer(DetectionScorer):
    """Detection that has the host model at hand as well."""

    name = "hosted_detection"

    @classmethod
    def create(cls, spec: ScoringSpec, tools: Tools) -> HostedDetectionScorer:
        scorer = cls(tools.need_judge(), spec.texts_per_call, spec.seed)
        scorer.site = tools.need_hosted_sae().site
        return scorer

    def provenance(self) -> dict[str, Any]:
        return {**super().provenance(), "site": self.site}


@pytest.fixture
def hosted_detection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scorer from outside that needs host model and judge."""
    monkeypatch.setattr(SCORERS, "_classes", dict(SCORERS._classes))

    @register
    class HostedDetectionScoring(ScoringSpec):
        """Detection with the host model at hand."""

        implementation = f"{__name__}:HostedDetectionScorer"
        version = "7"
        needs = frozenset({Need.JUDGE, Need.HOST})
        scorer: Literal["hosted_detection"] = "hosted_detection"


@pytest.mark.usefixtures("hosted_detection")
def test_a_scorer_from_outside_that_needs_host_and_judge(
    trained: Trained, settings: Settings, stub: StubServer
) -> None:
    execute(trained, settings, {**EXPLAIN, "explanation": {"features": FEATURES}}, "interp")
    asked = len(stub.requests)
    scoring = {"scorer": "hosted_detection", "positives": 4, "negatives": 4}
    spec = {"kind": "score", "sae": "tiny", "scoring": scoring}
    dry = execute(trained, settings, {**spec, "dry_run": True})
    assert dry.result is not None
    expected = dry.result["forecast"]["calls"]
    weighed, asked = len(stub.requests) - asked, len(stub.requests)
    assert expected > 0 and weighed <= 3
    run = execute(trained, settings, spec)
    assert run.result is not None and run.result["done"] == 3
    assert len(stub.requests) - asked == expected
    with transaction(trained.engine) as session:
        scores = list(session.scalars(select(Score)))
    assert {score.scorer for score in scores} == {"hosted_detection"} and len(scores) == 3
    # The judge says yes to all: every activating text, and no silent one.
    assert all(score.value == pytest.approx(0.5) for score in scores)
    assert all(
        score.details["plugins"] == [{"module": __name__, "version": "7"}] for score in scores
    )
    assert all(score.details["site"] == SITE for score in scores)
