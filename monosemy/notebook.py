"""The whole pipeline in this process: no service, no database, no queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monosemy import stages
from monosemy.console import reporting
from monosemy.data.store import TokenStore
from monosemy.errors import SpecError
from monosemy.hosted_sae import HostedSAE
from monosemy.index.reader import IndexReader
from monosemy.interp.explainers.base import Explanation
from monosemy.interp.scorers.result import ScoreResult
from monosemy.interp.texts import FeatureTexts, choose_features
from monosemy.labels import JudgeAddress, explain_with, run_async, score_with
from monosemy.models.host import HostModel
from monosemy.progress import Reporter
from monosemy.sae_folder import SaeFolder
from monosemy.saes.base import SAE
from monosemy.specs import (
    EvaluateRun,
    ExplanationSpec,
    IndexRun,
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
    scores: dict[int, list[ScoreResult]]
    """By feature, in the order of the spec's ``scoring``; of those that got them all."""

    @property
    def texts(self) -> FeatureTexts:
        """The index with its text, as ``monosemy.explain`` and ``monosemy.score`` take it."""
        return FeatureTexts(self.index, self.store)

    @property
    def hosted(self) -> HostedSAE:
        """The host model with the SAE in it, for scorers that run them."""
        return HostedSAE(self.host, self.sae, self.spec.site)


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
    judge = JudgeAddress.from_environment(judge_url)
    if judge is not None:
        judge = JudgeAddress(judge.url, judge_api_key or judge.api_key, judge_model or judge.model)
    with reporting(reporter) as shown:
        return _run(spec, Workspace(home), shown, judge)


def _parsed(data: Mapping[str, Any]) -> PipelineRun:
    spec = parse_spec({"kind": "pipeline", **data})
    if not isinstance(spec, PipelineRun):
        raise SpecError([("kind", "monosemy.pipeline takes specs of kind 'pipeline'")])
    return spec


def _run(
    spec: PipelineRun,
    workspace: Workspace,
    reporter: Reporter,
    judge: JudgeAddress | None,
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
    made = PipelineResult(
        spec,
        folder,
        sae.sae,
        host,
        store,
        sae.provenance["metrics"],
        evaluation,
        reader,
        {},
        {},
    )
    if spec.explanation is None:
        return made
    if judge is None:
        reporter.log("no judge is named (MONOSEMY_JUDGE_URL): features have evidence labels only")
        return made
    return run_async(_label(made, spec.explanation, judge, reporter))


async def _label(
    made: PipelineResult, spec: ExplanationSpec, judge: JudgeAddress, reporter: Reporter
) -> PipelineResult:
    """``made`` with explanations and scores."""
    texts = made.texts
    features = choose_features(texts, spec.features)
    explanations = await explain_with(texts, features, spec, judge, reporter)
    said = {feature: found.text for feature, found in explanations.items()}
    rounds = [
        await score_with(texts, said, scoring, judge, reporter, made.hosted)
        for scoring in made.spec.scoring or []
    ]
    scores = {
        feature: [found[feature] for found in rounds]
        for feature in (said if rounds else {})
        if all(feature in found for found in rounds)
    }
    return replace(made, explanations=explanations, scores=scores)
