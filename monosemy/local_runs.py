"""Runs of every kind in this process: a spec and a folder of artifacts, no service, no database.

A run's artifacts stand under a name made of its spec, so that the same spec resumes what an
interrupted run left and does not train again what is trained.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monosemy import stages
from monosemy.basis_stage import make_basis
from monosemy.errors import DataError, MonosemyError, SpecError
from monosemy.half_written import faults_naming
from monosemy.home import Home
from monosemy.import_stage import import_saes
from monosemy.interp.explainers.base import Explanation
from monosemy.interp.forecast import forecast_explanations, forecast_scores
from monosemy.interp.scorers.result import ScoreResult
from monosemy.interp.texts import FeatureTexts, choose_features
from monosemy.labels import JudgeAddress, explain_with, run_async, score_with
from monosemy.local_analyses import LocalAnalyses
from monosemy.outside_runs import execute_outside
from monosemy.sae_folder import SaeFolder
from monosemy.set_stage import evaluate_set_run
from monosemy.specs import (
    BasisRun,
    EvaluateRun,
    EvaluateSetRun,
    ExplainRun,
    ImportRun,
    IndexRun,
    RunSpec,
    ScoreRun,
    SweepRun,
    TrainRun,
)
from monosemy.specs.names import PENDING_SAE
from monosemy.specs.references import SaeReference, references, replaced
from monosemy.specs.run import NO_QUEUE
from monosemy.specs.sets import SetPlace, set_places
from monosemy.workspace import Kind

_NO_JUDGE = "Give its address, or set MONOSEMY_JUDGE_URL."


class LocalRuns:
    """Executes specs one after the other, with the artifacts and host models of ``home``."""

    def __init__(self, home: Home, judge: JudgeAddress | None = None) -> None:
        self.home, self.judge = home, judge
        self._executors: dict[str, Callable[[Any], dict[str, Any]]] = {
            "train": lambda spec: self._summary(self.train(spec)),
            "evaluate_set": self.evaluate_set,
            "sweep": lambda spec: {"saes": [self._summary(each) for each in self.sweep(spec)]},
            "basis": lambda spec: self._summary(self.basis(spec)),
            "import": self._import,
            "evaluate": self._evaluate,
            "index": self._index,
            "explain": self._explain,
            "score": self._score,
            **LocalAnalyses(home).executors,
        }

    def run(self, spec: RunSpec) -> dict[str, Any]:
        """Executes a spec, or its steps in order; what it made, as JSON.

        Where no judge is named, the steps of a pipeline that need one are left out, and said so;
        any other run that needs one raises ``DataError``.  The error of a step that failed has what
        those before it ``made``.
        """
        if spec.queue == NO_QUEUE:
            return self._steps(spec)
        execute = self._executors.get(spec.kind)
        if execute is not None:
            return execute(spec)
        return execute_outside(spec, self.home.workspace, self.home.reporter)

    def _steps(self, spec: RunSpec) -> dict[str, Any]:
        result: dict[str, Any] = {}
        sae: str | None = None
        left_out: set[int] = set()
        for place, step in enumerate(spec.steps()):
            each = step.spec
            if step.after in left_out or (self.judge is None and each.needs_judge()):
                left_out.add(place)
                continue
            for reference, _ in references(each, SaeReference):
                if reference.value == PENDING_SAE and sae is not None:
                    data = replaced(each.model_dump(mode="json"), reference.path, sae)
                    each = type(each).model_validate(data)
            try:
                done = self.run(each)
            except MonosemyError as error:
                error.made = {"sae": sae, **result}
                raise
            sae = sae or done.get("sae")
            if each.listed_as is not None:
                result.setdefault(each.listed_as, []).append(done)
            else:
                result[each.kind] = done
        if left_out:
            kinds = dict.fromkeys(spec.steps()[place].spec.kind for place in sorted(left_out))
            self.home.reporter.log(
                f"no judge is named (MONOSEMY_JUDGE_URL): left out {', '.join(kinds)}"
            )
        return {"sae": sae, **result}

    # ------------------------------------------------------------------ SAEs
    def train(self, spec: TrainRun) -> SaeFolder:
        """The SAE of ``spec``, trained unless it is there."""
        (sae,) = self._train(spec, [spec], [self.home.name_of(spec)])
        return sae

    def sweep(self, spec: SweepRun) -> list[SaeFolder]:
        """The SAEs of a sweep, in the order of ``spec.members()``."""
        members, name = spec.members(), self.home.name_of(spec)
        if spec.name is not None:
            members = [
                each.model_copy(update={"name": f"{spec.name}-{place}"})
                for place, each in enumerate(members)
            ]
        sets = set_places(spec, spec.name or name) if spec.sets() else None
        folders = [f"{name}-{place:03d}" for place in range(len(members))]
        return self._train(spec, members, folders, sets)

    def _train(
        self,
        run: TrainRun | SweepRun,
        specs: Sequence[TrainRun],
        names: Sequence[str],
        sets: Sequence[SetPlace | None] | None = None,
    ) -> list[SaeFolder]:
        workspace, reporter = self.home.workspace, self.home.reporter
        folders = [workspace.folder(Kind.SAES, name) for name in names]
        if not all((folder / "cfg.json").is_file() for folder in folders):
            checkpoints = workspace.folder(Kind.RUNS, self.home.name_of(run))
            host = self.home.host
            stages.train_many(
                specs, folders, run.training, checkpoints, workspace, host, reporter, sets=sets
            )
        return [SaeFolder(folder, workspace) for folder in folders]

    def import_sae(self, spec: ImportRun) -> SaeFolder:
        """The SAE that ``spec`` names, taken in unless it is there; the first of a set."""
        return self.import_saes(spec)[0]

    def import_saes(self, spec: ImportRun) -> list[SaeFolder]:
        """The SAEs of the layers that ``spec`` names, which are a set; one without."""
        if spec.source.startswith("upload:"):
            raise SpecError([("source", "uploads are of a service; name the folder itself")])
        home, name = self.home, self.home.name_of(spec)
        names, sets = [name], None
        if spec.layers is not None:
            names = [f"{name}-{place:03d}" for place in range(len(spec.layers))]
            sets = set_places(spec, spec.name or name)
        folders = [home.workspace.folder(Kind.SAES, each) for each in names]
        if not all((folder / "cfg.json").is_file() for folder in folders):
            import_saes(spec, folders, home.host, home.reporter, sets=sets)
        return [SaeFolder(folder, home.workspace) for folder in folders]

    def _import(self, spec: ImportRun) -> dict[str, Any]:
        made = [self._summary(each) for each in self.import_saes(spec)]
        return made[0] if spec.layers is None else {"saes": made}

    def basis(self, spec: BasisRun, beside: SaeFolder | None = None) -> SaeFolder:
        """The basis of ``spec``, made unless it is there; ``beside``: the SAE that it names."""
        home = self.home
        if spec.beside is not None:
            beside = beside or home.sae(spec.beside)
        name = home.name_of(spec) if beside is None else f"{home.name_of(spec)}-{beside.digest}"
        folder = home.workspace.folder(Kind.SAES, name)
        if not (folder / "cfg.json").is_file():
            make_basis(spec, beside, folder, home.workspace, home.host, home.reporter)
        return SaeFolder(folder, home.workspace)

    def evaluate(self, spec: EvaluateRun, sae: SaeFolder | None = None) -> dict[str, Any]:
        """Metrics of an SAE on held-out documents."""
        sae = sae or self.home.sae(spec.sae)
        home = self.home
        return stages.evaluate(spec, sae, home.workspace, home.host, home.reporter)

    def evaluate_set(self, spec: EvaluateSetRun) -> dict[str, Any]:
        """Metrics of SAEs of one host model, together."""
        saes, home = [self.home.sae(each) for each in spec.saes], self.home
        return evaluate_set_run(spec, saes, home.workspace, home.host, home.reporter)

    def index(self, spec: IndexRun, sae: SaeFolder | None = None) -> FeatureTexts:
        """Rebuilds the index of an SAE and opens it with its text."""
        sae, home = sae or self.home.sae(spec.sae), self.home

        def folder_for(text_id: str) -> Path:
            return home.index_folder(sae, text_id)

        workspace = home.workspace
        reader, store, _ = stages.index(spec, sae, folder_for, workspace, home.host, home.reporter)
        return FeatureTexts(reader, store)

    # ------------------------------------------------------------------ explanations
    def explain(
        self, spec: ExplainRun, sae: SaeFolder, texts: FeatureTexts
    ) -> dict[int, Explanation]:
        """Explanations by feature, of those that got one."""
        if self.judge is None and spec.needs_judge():
            raise DataError("Explaining needs a judge.", _NO_JUDGE)
        features = choose_features(texts, spec.explanation.features)
        hosted = self.home.hosted(sae) if spec.needs_host() else None
        return run_async(
            explain_with(texts, features, spec.explanation, self.judge, self.home.reporter, hosted)
        )

    def score(
        self, spec: ScoreRun, sae: SaeFolder, texts: FeatureTexts, explained: Mapping[int, str]
    ) -> dict[int, ScoreResult]:
        """Scores by feature, of those that got one."""
        if self.judge is None and spec.needs_judge():
            raise DataError("This scorer needs a judge.", _NO_JUDGE)
        hosted = self.home.hosted(sae) if spec.needs_host() else None
        return run_async(
            score_with(texts, explained, spec.scoring, self.judge, self.home.reporter, hosted)
        )

    # ------------------------------------------------------------------ results as JSON
    def _summary(self, sae: SaeFolder) -> dict[str, Any]:
        provenance = sae.provenance
        return {
            "sae": sae.path.name,
            "folder": str(sae.path),
            "name": provenance["spec"].get("name"),
            "metrics": provenance["metrics"],
        }

    def _evaluate(self, spec: EvaluateRun) -> dict[str, Any]:
        return {"sae": spec.sae, "metrics": self.evaluate(spec)}

    def _index(self, spec: IndexRun) -> dict[str, Any]:
        reader = self.index(spec).reader
        size = {"features": reader.n_features, "tokens": reader.n_tokens}
        return {"sae": spec.sae, "folder": str(reader.folder), "text_id": reader.text_id, **size}

    def _explain(self, spec: ExplainRun) -> dict[str, Any]:
        sae = self.home.sae(spec.sae)
        texts = self.home.texts(sae)
        if spec.dry_run:
            features = choose_features(texts, spec.explanation.features)
            forecast = run_async(forecast_explanations(texts, features, spec.explanation))
            return {"sae": spec.sae, "forecast": forecast.as_dict(), "summary": str(forecast)}
        explanations = {
            str(feature): {"label": each.label, "text": each.text, "provenance": each.provenance}
            for feature, each in sorted(self.explain(spec, sae, texts).items())
        }
        file = self.home.labels_file(sae, texts)
        labels = _read(file)
        labels["explanations"] |= explanations
        for scores in labels["scores"].values():  # they are of the explanations before
            for feature in explanations:
                scores.pop(feature, None)
        _write(file, labels)
        summaries = {
            feature: {"label": each["label"], "text": each["text"]}
            for feature, each in explanations.items()
        }
        return {"sae": spec.sae, "labels": str(file), "explanations": summaries}

    def _score(self, spec: ScoreRun) -> dict[str, Any]:
        if spec.explanation is not None:
            raise SpecError(
                [("explanation", "ids of explanations are of a service; name features")]
            )
        sae = self.home.sae(spec.sae)
        texts = self.home.texts(sae)
        file = self.home.labels_file(sae, texts)
        labels = _read(file)
        explained = {int(key): str(each["text"]) for key, each in labels["explanations"].items()}
        if spec.features is not None:
            explained = {
                feature: text for feature, text in explained.items() if feature in spec.features
            }
        if not explained:
            raise DataError("There are no explanations to score.", "Explain features first.")
        if spec.dry_run:
            forecast = run_async(forecast_scores(texts, explained, spec.scoring))
            return {"sae": spec.sae, "forecast": forecast.as_dict(), "summary": str(forecast)}
        scores = {
            str(feature): {
                "metric": each.metric,
                "value": each.value,
                "low": each.low,
                "high": each.high,
                "n": each.n,
                "n_failed": each.n_failed,
                "baseline": None if each.baseline is None else each.baseline.value,
            }
            for feature, each in sorted(self.score(spec, sae, texts, explained).items())
        }
        scorer = spec.scoring.scorer
        labels["scores"][scorer] = {**labels["scores"].get(scorer, {}), **scores}
        _write(file, labels)
        return {"sae": spec.sae, "labels": str(file), "scorer": scorer, "scores": scores}


def _read(file: Path) -> dict[str, Any]:
    """``explanations`` by feature and ``scores`` by scorer and feature, as earlier runs kept them;
    ``DataError`` for a file that holds something else."""
    if not file.exists():
        return {"explanations": {}, "scores": {}}
    try:
        labels: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        for feature, each in labels["explanations"].items():
            int(feature), each["text"]
        for scores in labels["scores"].values():
            scores.keys()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{file} cannot be read: {error}.", "Delete it and explain again."
        ) from None
    return labels


def _write(file: Path, labels: Mapping[str, Any]) -> None:
    """The whole file or nothing."""
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.part")
    with faults_naming(file, unfinished):
        unfinished.write_text(json.dumps(labels, indent=1, ensure_ascii=False), encoding="utf-8")
        unfinished.replace(file)
