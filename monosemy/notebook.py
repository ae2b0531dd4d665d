"""The whole pipeline in this process: no service, no database, no queue."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monosemy import stages
from monosemy.console import ConsoleReporter
from monosemy.data.store import TokenStore
from monosemy.errors import SpecError
from monosemy.index.reader import IndexReader
from monosemy.interp.explainers.base import Explanation
from monosemy.interp.judging.judge import Judge
from monosemy.interp.labelling import (
    explain_features,
    score_explanations,
)
from monosemy.interp.registry import create_explainer, create_scorer
from monosemy.interp.scorers.result import ScoreResult
from monosemy.interp.texts import FeatureTexts, choose_features
from monosemy.interp.tools import Tools
from monosemy.models.host import HostModel
from monosemy.progress import Reporter
from monosemy.sae_folder import SaeFolder
from monosemy.saes.base import SAE
from monosemy.specs import (
    EvaluateRun,
    IndexRun,
    JudgeSpec,
    ModelSpec,
    PipelineRun,
    TrainRun,
    parse_spec,
    pipeline_children,
)
from monosemy.workspace import Workspace, fingerprint


@dataclass(frozen=True)
class PipelineResult:
    """Everything that a pipeline made, opened."""

    spec: PipelineRun
    folder: Path
    """The SAE folder (SAELens v6)."""
    sae: SAE
    host: HostModel
    store: TokenStore
    metrics: dict[str, Any]
    """Of the training."""
    evaluation: dict[str, Any] | None
    index: IndexReader
    explanations: dict[int, Explanation]
    scores: dict[int, ScoreResult]


def pipeline(
    spec: Mapping[str, Any] | PipelineRun | None = None,
    home: str | Path = "monosemy-work",
    judge_url: str | None = None,
    judge_model: str | None = None,
    judge_api_key: str | None = None,
    reporter: Reporter | None = None,
) -> PipelineResult:
    """Trains, evaluates, indexes and, where a judge is named, explains and scores.

    ``spec`` is a pipeline spec (the ``kind`` may be left out), the same that the API takes;
    ``home`` keeps all artifacts.  A call with the same spec resumes what an interrupted one left,
    and does not train again what is trained.  The judge is an OpenAI-compatible endpoint, by
    default that of ``MONOSEMY_JUDGE_URL``, ``_MODEL`` and ``_API_KEY``; without one there are
    evidence labels only.
    Raises ``SpecError`` and the other ``MonosemyError``.
    """
    if not isinstance(spec, PipelineRun):
        spec = _parsed(spec or {})
    workspace = Workspace(home)
    shown = reporter or ConsoleReporter()
    try:
        return _run(
            spec,
            workspace,
            shown,
            judge_url or os.environ.get("MONOSEMY_JUDGE_URL"),
            judge_api_key or os.environ.get("MONOSEMY_JUDGE_API_KEY"),
            judge_model or os.environ.get("MONOSEMY_JUDGE_MODEL"),
        )
    finally:
        if isinstance(shown, ConsoleReporter):
            shown.close()


def _parsed(data: Mapping[str, Any]) -> PipelineRun:
    spec = parse_spec({"kind": "pipeline", **data})
    if not isinstance(spec, PipelineRun):
        raise SpecError([("kind", "monosemy.pipeline takes specs of kind 'pipeline'")])
    return spec


def _run(
    spec: PipelineRun,
    workspace: Workspace,
    reporter: Reporter,
    judge_url: str | None,
    judge_key: str | None,
    judge_model: str | None,
) -> PipelineResult:
    training = pipeline_children(spec)[0]
    assert isinstance(training, TrainRun)
    name = fingerprint(training.model_dump(mode="json"))
    folder = workspace.folder("saes", name)
    loaded: dict[str, HostModel] = {}

    def load_host(model: ModelSpec) -> HostModel:
        key = model.model_dump_json()
        if key not in loaded:
            loaded[key] = HostModel.load(model, workspace, reporter)
        return loaded[key]

    if not (folder / "cfg.json").is_file():
        checkpoints = workspace.folder("runs", name)
        stages.train(training, folder, checkpoints, workspace, load_host, reporter)
    sae = SaeFolder(folder, workspace)
    evaluation = None
    if spec.evaluation is not None:
        run = EvaluateRun(sae=name, evaluation=spec.evaluation)
        evaluation = stages.evaluate(run, sae, workspace, load_host, reporter)
    reader, store, host = stages.index(
        IndexRun(sae=name, indexing=spec.indexing),
        sae,
        lambda text_id: workspace.folder("indexes", f"{name}-{text_id}"),
        workspace,
        load_host,
        reporter,
    )
    explanations: dict[int, Explanation] = {}
    scores: dict[int, ScoreResult] = {}
    if judge_url and spec.explanation is not None:

        def judge(options: JudgeSpec) -> Judge:
            return Judge(judge_url, judge_key, judge_model, options)

        work = _label(spec, reader, store, judge, reporter, explanations, scores)
        with ThreadPoolExecutor(1) as pool:  # a notebook's own thread has an event loop already
            pool.submit(asyncio.run, work).result()
    elif spec.explanation is not None:
        reporter.log("no judge is named (MONOSEMY_JUDGE_URL): features have evidence labels only")
    return PipelineResult(
        spec,
        folder,
        sae.sae,
        host,
        store,
        sae.provenance["metrics"],
        evaluation,
        reader,
        explanations,
        scores,
    )


async def _label(
    spec: PipelineRun,
    reader: IndexReader,
    store: TokenStore,
    make_judge: Any,
    reporter: Reporter,
    explanations: dict[int, Explanation],
    scores: dict[int, ScoreResult],
) -> None:
    """Fills ``explanations`` and ``scores``."""
    assert spec.explanation is not None
    texts = FeatureTexts(reader, store)
    features = choose_features(texts, spec.explanation.features)
    async with make_judge(spec.explanation.judge) as judge:
        explainer = create_explainer(spec.explanation, Tools(judge=judge))
        await explain_features(
            texts, features, spec.explanation, explainer, explanations.__setitem__, reporter
        )
    if spec.scoring is None:
        return
    said = {feature: found.text for feature, found in explanations.items()}
    async with make_judge(spec.scoring.judge) as judge:
        tools = Tools(judge=judge)
        scorer = create_scorer(spec.scoring, tools)
        await texts.prepare(scorer.tiers(spec.scoring.tiers), tools, reporter)
        await score_explanations(
            texts, said, list(said), spec.scoring, scorer, scores.__setitem__, reporter
        )
