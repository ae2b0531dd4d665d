"""Runs from a notebook or a script: one function a kind, no service, no database, no queue.

sae = monosemy.train({"sae": {"d_sae": 4096}}, home="my-work")
monosemy.evaluate(sae)
texts = monosemy.build_index(sae)
explanations = monosemy.explain(texts, [3, 17])

Each shows its progress, unless it is given a ``reporter``, and keeps its artifacts in ``home``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from monosemy.console import reporting
from monosemy.data.store import TokenStore
from monosemy.errors import DataError, SpecError
from monosemy.formats.export import write_circuit_tracer, write_sparsify
from monosemy.home import HOME, Home, home_of
from monosemy.hosted_sae import HostedSAE
from monosemy.index.reader import IndexReader
from monosemy.interp.explainers.base import Explanation
from monosemy.interp.scorers.result import ScoreResult
from monosemy.interp.texts import FeatureTexts, choose_features
from monosemy.labels import JudgeAddress, explain_with, run_async, score_with
from monosemy.local_runs import LocalRuns
from monosemy.models.host import HostModel
from monosemy.progress import Reporter
from monosemy.sae_folder import SaeFolder
from monosemy.saes.base import SAE
from monosemy.specs import (
    BasisRun,
    EvaluateRun,
    EvaluateSetRun,
    EvaluationSpec,
    ExplanationSpec,
    IndexingSpec,
    IndexRun,
    Need,
    PipelineRun,
    RunSpec,
    SweepRun,
    TextSpec,
    TrainRun,
    parse_part,
    parse_run,
    parse_spec,
)
from monosemy.specs.readings import TrainingReading
from monosemy.workspace import Workspace


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
    def readings(self) -> list[TrainingReading]:
        """Of the training, as ``monosemy.readings`` gives them."""
        return self._opened.readings

    @property
    def texts(self) -> FeatureTexts:
        """The index with its text, as ``monosemy.explain`` and ``monosemy.score`` take it."""
        return FeatureTexts(self.index, self.store)

    @property
    def lab(self) -> HostedSAE:
        """The former name of ``hosted``."""
        warnings.warn("PipelineResult.lab is now hosted", DeprecationWarning, stacklevel=2)
        return self.hosted

    @property
    def hosted(self) -> HostedSAE:
        """The host model with the SAE in it, for scorers that run them."""
        return self._opened.hosted(self.host, self.sae)

    @property
    def _opened(self) -> SaeFolder:
        return SaeFolder(self.folder, Workspace(self.folder.parent.parent))


def train(
    spec: Mapping[str, Any] | TrainRun | None = None,
    home: str | Path = HOME,
    reporter: Reporter | None = None,
) -> SaeFolder:
    """The SAE of a train spec (the ``kind`` may be left out), in its folder.

    A call with the same spec resumes what an interrupted one left, and does not train again what is
    trained.  Raises ``SpecError``, and ``DataError`` or ``ModelError`` for what cannot be used.
    """
    parsed = parse_run(TrainRun, {} if spec is None else spec)
    with reporting(reporter) as progress:
        _say_defaults(spec, parsed, progress)
        return LocalRuns(Home(home, progress)).train(parsed)


def evaluate(
    sae: SaeFolder | str | Path,
    home: str | Path | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> dict[str, Any]:
    """How good an SAE is, on documents that it was not trained on: FVU, L0, dead share, CE
    recovered, and the same of its frozen-decoder baseline.

    ``sae`` is what ``train`` returns, an SAE's folder, or its name in ``home``; ``options`` are
    fields of ``EvaluationSpec``.  Raises as ``train`` does, and ``DataError`` where SAE, host model
    or text have changed.
    """
    evaluation = parse_part(EvaluationSpec, options)
    with reporting(reporter) as progress:
        runs = LocalRuns(Home(home_of(sae, home), progress))
        folder = runs.home.sae(sae)
        return runs.evaluate(EvaluateRun(sae=folder.path.name, evaluation=evaluation), folder)


def evaluate_set(
    saes: str | Sequence[SaeFolder | str | Path],
    home: str | Path = HOME,
    reporter: Reporter | None = None,
    **options: Any,
) -> dict[str, Any]:
    """How good SAEs of one host model are together: FVU and L0 of each, and the loss with each
    alone, and with all at once, in place, with intervals (``monosemy.evals.sets``).

    ``saes`` is the name of a set in ``home``, or SAEs as in ``evaluate``, by layer; ``options`` are
    fields of ``EvaluationSpec``.  Raises as ``evaluate`` does.
    """
    with reporting(reporter) as progress:
        runs = LocalRuns(Home(home, progress))
        members = runs.home.set(saes) if isinstance(saes, str) else [*map(runs.home.sae, saes)]
        spec = {"saes": [str(each.path) for each in members], "evaluation": options}
        return runs.evaluate_set(parse_run(EvaluateSetRun, spec))


def readings(
    sae: SaeFolder | str | Path | TrainRun | SweepRun | Mapping[str, Any],
    home: str | Path | None = None,
    place: int = 0,
) -> list[TrainingReading]:
    """What was read of an SAE's training, every ten steps (of a long one at most 4,000 times).

    ``sae`` is what ``train`` returns, an SAE's folder, or its name in ``home``; or the train or
    sweep spec of a training, also while another process is at it: ``place`` is that of the SAE in
    a sweep.  Raises ``SpecError``, and ``DataError`` where there is no such SAE.
    """
    opened = Home(home_of(sae, home))
    if not isinstance(sae, TrainRun | SweepRun | Mapping):
        return opened.sae(sae).readings
    sweep = isinstance(sae, Mapping) and sae.get("kind") == "sweep"
    swept = sweep or isinstance(sae, SweepRun)
    spec = parse_run(SweepRun, sae) if swept else parse_run(TrainRun, sae)
    members = len(spec.trainings())
    if not 0 <= place < members:
        raise SpecError([("place", f"the run trains {members} SAEs: 0 to {members - 1}")])
    return opened.readings(spec, place)


def export(
    saes: str | SaeFolder | Path | Sequence[SaeFolder | str | Path],
    folder: str | Path,
    layout: Literal["circuit_tracer", "sparsify"] = "circuit_tracer",
    home: str | Path = HOME,
) -> Path:
    """Writes SAEs in the layout of another library, into a new ``folder``; the folder.

    ``saes``: the name of a set or of an SAE in ``home``, an SAE as ``train`` returns it, or several
    by layer.  circuit-tracer takes the transcoders of all layers, or one cross-layer transcoder;
    sparsify a TopK SAE or transcoder.  SAELens reads the SAE's own folder.  Raises ``DataError``
    for what the layout cannot express.
    """
    opened, target = Home(home), Path(folder)
    if target.exists():
        raise DataError(f"{target} is there already.", "Name a folder that is to be made.")
    if isinstance(saes, str) and any(each == saes for each in opened.set_names()):
        members = opened.set(saes)
    else:
        several = [saes] if isinstance(saes, str | Path | SaeFolder) else saes
        members = [opened.sae(each) for each in several]
    if layout == "circuit_tracer":
        write_circuit_tracer([each.path for each in members], target)
    elif len(members) == 1:
        write_sparsify(members[0].path, target)
    else:
        raise DataError("sparsify's folder holds one SAE.")
    return target


def build_index(
    sae: SaeFolder | str | Path,
    home: str | Path | None = None,
    text: Mapping[str, Any] | TextSpec | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> FeatureTexts:
    """The index of an SAE with its text, as ``explain`` and ``score`` take it.

    ``text`` is another text than that of the training; ``options`` are fields of ``IndexingSpec``.
    ``sae`` and errors as in ``evaluate``.
    """
    other = parse_part(TextSpec, text) if isinstance(text, Mapping) else text
    indexing = parse_part(IndexingSpec, options)
    with reporting(reporter) as progress:
        runs = LocalRuns(Home(home_of(sae, home), progress))
        folder = runs.home.sae(sae)
        spec = IndexRun(sae=folder.path.name, text=other, indexing=indexing)
        return runs.index(spec, folder)


def basis(
    beside: SaeFolder | str | Path | None = None,
    home: str | Path | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> SaeFolder:
    """Neurons, principal components or random directions as an SAE, which ``evaluate``,
    ``build_index``, ``explain`` and ``score`` take as any other; nothing is trained.

    ``beside``: an SAE as in ``evaluate``, whose model, text, site and sparsity it takes.
    ``options`` are fields of ``BasisRun``: ``basis``, ``selection``, ``l0``, ``directions``, and
    without ``beside`` ``model``, ``text``, ``site``.  Errors as in ``evaluate``.
    """
    with reporting(reporter) as progress:
        runs = LocalRuns(Home(home_of(beside, home), progress))
        folder = None if beside is None else runs.home.sae(beside)
        named = {} if folder is None else {"beside": folder.path.name}
        return runs.basis(parse_run(BasisRun, {**options, **named}), folder)


def run(
    spec: Mapping[str, Any] | RunSpec,
    home: str | Path = HOME,
    judge_url: str | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Executes a spec of any kind; what it made, as JSON: names of SAEs, folders, metrics.

    In ``sae`` (and ``other``) stands an SAE's folder, or its name in ``home``.  The judge is the
    endpoint named, or that of the environment (``MONOSEMY_JUDGE_URL``); a pipeline without one is
    done up to where it needs one.  ``python -m monosemy SPEC`` does the same.
    """
    parsed = spec if isinstance(spec, RunSpec) else parse_spec(spec)
    with reporting(reporter) as progress:
        return LocalRuns(Home(home, progress), JudgeAddress.from_environment(judge_url)).run(parsed)


def pipeline(
    spec: Mapping[str, Any] | PipelineRun | None = None,
    home: str | Path = HOME,
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
    parsed = parse_run(PipelineRun, {} if spec is None else spec)
    judge = JudgeAddress.from_environment(judge_url)
    if judge is not None:
        judge = JudgeAddress(judge.url, judge_api_key or judge.api_key, judge_model or judge.model)
    with reporting(reporter) as progress:
        _say_defaults(spec, parsed, progress)
        return _run(parsed, Home(home, progress), judge)


def _say_defaults(spec: object, parsed: TrainRun | PipelineRun, reporter: Reporter) -> None:
    """That a whole training begins, where nobody said how long it is to be."""
    if not spec:
        (training,) = parsed.trainings()
        reporter.log(
            f"no spec is given: {training.model.name} and {training.training.tokens:,} tokens, by"
            " default; training.tokens says how many"
        )


def _run(spec: PipelineRun, home: Home, judge: JudgeAddress | None) -> PipelineResult:
    runs = LocalRuns(home, judge)
    (training,) = spec.trainings()
    sae = runs.train(training)
    name = sae.path.name
    evaluation = None
    if spec.evaluation is not None:
        evaluation = runs.evaluate(EvaluateRun(sae=name, evaluation=spec.evaluation), sae)
    texts = runs.index(IndexRun(sae=name, indexing=spec.indexing), sae)
    result = PipelineResult(
        spec,
        sae.path,
        sae.sae,
        home.host(training.model),
        texts.store,
        sae.provenance["metrics"],
        evaluation,
        texts.reader,
        {},
        {},
    )
    if spec.explanation is None:
        return result
    if judge is None and Need.JUDGE in spec.explanation.required:
        home.reporter.log(
            "no judge is named (MONOSEMY_JUDGE_URL): features have evidence labels only"
        )
        return result
    return run_async(_label(result, spec.explanation, judge, home.reporter))


async def _label(
    result: PipelineResult,
    spec: ExplanationSpec,
    judge: JudgeAddress | None,
    reporter: Reporter,
) -> PipelineResult:
    """``result`` with explanations and scores."""
    texts = result.texts
    features = choose_features(texts, spec.features)
    explanations = await explain_with(texts, features, spec, judge, reporter)
    sentences = {feature: each.text for feature, each in explanations.items()}
    rounds = [
        await score_with(texts, sentences, scoring, judge, reporter, result.hosted)
        for scoring in result.spec.scoring or []
    ]
    scores = {
        feature: [each[feature] for each in rounds]
        for feature in (sentences if rounds else {})
        if all(feature in each for each in rounds)
    }
    return replace(result, explanations=explanations, scores=scores)
