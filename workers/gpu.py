"""The GPU worker (``python -m workers.gpu``): train, evaluate, index, score by the host model."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from monosemy import stages
from monosemy.basis_stage import make_basis
from monosemy.import_stage import import_saes
from monosemy.index.made_of import check_first_index
from monosemy.interp.tools import Tools
from monosemy.models.host import HostModel
from monosemy.sae_folder import SaeFolder
from monosemy.set_stage import evaluate_set_run
from monosemy.specs import (
    AttentionRun,
    BasisRun,
    BenchmarkRun,
    CircuitRun,
    CompareRun,
    ConceptRun,
    EvaluateRun,
    EvaluateSetRun,
    ExplainRun,
    ImportRun,
    IndexRun,
    LayoutRun,
    ModelSpec,
    Part,
    ScoreRun,
    SweepRun,
    TaskRun,
    TrainingSpec,
    TrainRun,
    needs_judge,
)
from monosemy.specs.latent_classes import ScaledLatent
from monosemy.specs.sets import SetPlace, set_places
from monosemy.threads import usable_cores
from monosemy.training.room import check_memory, forecast
from monosemy.workspace import Kind, Workspace
from service.crosscoders.repository import replace_latents
from service.database.storable import storable
from service.database.tables import Run, Sae
from service.inference.client import InferenceClient
from service.runs.sources import check_path
from service.search.embeddings import Embeddings
from service.settings import Settings
from service.uploads import store as uploads
from workers import publish
from workers.attention import survey_sae
from workers.benchmarks import benchmark_run
from workers.circuit import find_circuit_of_run
from workers.compare import Comparing
from workers.concepts import find_concept_run
from workers.dispatch import Dispatch, Executor
from workers.folders import folder_of
from workers.graphs import GraphMaking, make_graphs
from workers.hosts import HostCache
from workers.interpretation import Interpretation, judge_of
from workers.judges import open_judge
from workers.layout import lay_out_sae
from workers.names import as_name, default_name, default_set_name
from workers.reporter import RunReporter
from workers.saes import named_sae
from workers.stoppable import until_stopped
from workers.tasks import evaluate_task_run
from workers.worker import Execute, main


class GpuRuns(Dispatch):
    """Executes the runs that need torch and the host model."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings, self.engine = settings, engine
        self.workspace = Workspace(settings.artifacts)
        self.hosts = HostCache(
            self.workspace,
            allowed=settings.max_memory_mb * 1_000_000,
            check=partial(check_path, settings),
        )
        self.lease_seconds = settings.lease_seconds
        executors: dict[str, Executor] = {
            "train": self._train,
            "sweep": self._sweep,
            "import": self._import,
            "basis": self._basis,
            "evaluate": self._evaluate,
            "evaluate_set": self._evaluate_set,
            "index": self._index,
            "compare": self._compare,
            "layout": self._layout,
            "task": self._task,
            "concept": self._concept,
            "benchmark": self._benchmark,
            "attention": self._attention,
            "circuit": self._circuit,
            "graph": self._graph,
            "feature_circuit": self._graph,
            "explain": self._interpret,
            "score": self._interpret,
        }
        super().__init__(settings, self.workspace, executors)

    def _train(self, run: Run, spec: TrainRun, reporter: RunReporter) -> dict[str, Any]:
        (made,) = self._train_all(run, [spec], spec.sae_ids(run.id), reporter, spec.training)
        return made

    def _sweep(self, run: Run, spec: SweepRun, reporter: RunReporter) -> dict[str, Any]:
        members = spec.members()
        named = [
            member.model_copy(update={"name": f"{spec.name or default_name(member)}-{number}"})
            for number, member in enumerate(members)
        ]
        ids = spec.sae_ids(run.id)
        sets = None
        if spec.sets():
            sets = set_places(spec, spec.name or default_set_name(spec))
        return {"saes": self._train_all(run, named, ids, reporter, spec.training, sets)}

    def _train_all(
        self,
        run: Run,
        specs: list[TrainRun],
        ids: Sequence[uuid.UUID],
        reporter: RunReporter,
        stream: TrainingSpec,
        sets: Sequence[SetPlace | None] | None = None,
    ) -> list[dict[str, Any]]:
        """Trains on one stream and publishes: sae_id, name, metrics of each, and its set."""
        checkpoints = self.workspace.folder(Kind.RUNS, str(run.id))
        artifacts = stages.train_many(
            specs,
            [self.workspace.folder(Kind.SAES, str(sae_id)) for sae_id in ids],
            stream,
            checkpoints,
            self.workspace,
            partial(self._host_with_room, specs, stream, reporter),
            reporter,
            origin={"run_id": str(run.id)},
            sets=sets,
        )

        made = self._publish_all(run, ids, artifacts, reporter, sets)
        stages.clear_checkpoints(checkpoints)
        return made

    def _publish_all(
        self,
        run: Run,
        ids: Sequence[uuid.UUID],
        artifacts: Sequence[stages.TrainedArtifact],
        reporter: RunReporter,
        sets: Sequence[SetPlace | None] | None,
    ) -> list[dict[str, Any]]:
        """Rows of SAEs that were made together: sae_id, name, metrics of each, and its set."""

        def write(session: Session) -> tuple[list[str], list[str | None]]:
            wanted = [None if each is None else each.name for each in sets or [None] * len(ids)]
            called = {name: publish.free_set_name(session, name, ids) for name in {*wanted} if name}
            in_sets = [None if name is None else called[name] for name in wanted]
            names = [
                self._publish(session, run, sae_id, made, of)
                for sae_id, made, of in zip(ids, artifacts, in_sets, strict=True)
            ]
            return names, in_sets

        names, in_sets = reporter.commit(write)
        return [
            {"sae_id": str(sae_id), "name": name, "metrics": made.metrics}
            | ({} if of is None else {"set": of})
            for sae_id, name, made, of in zip(ids, names, artifacts, in_sets, strict=True)
        ]

    def _host_with_room(
        self,
        specs: list[TrainRun],
        stream: TrainingSpec,
        reporter: RunReporter,
        model: ModelSpec,
    ) -> HostModel:
        """The host model; ``DataError`` where its SAEs would take more memory than they may."""
        host = self.hosts.load(model, reporter)
        allowed = self.settings.max_memory_mb * 1_000_000
        check_memory(forecast(specs, stream, host), host, allowed)
        return host

    def _import(self, run: Run, spec: ImportRun, reporter: RunReporter) -> dict[str, Any]:
        ids = spec.sae_ids(run.id)
        folders = [self.workspace.folder(Kind.SAES, str(sae_id)) for sae_id in ids]
        load_host = partial(self.hosts.load, reporter=reporter)
        sets = None
        if spec.layers is not None:
            sets = set_places(spec, spec.name or as_name(spec.source))
        origin = {"run_id": str(run.id)}
        place = uploads.locate(self.workspace, spec.source)
        artifacts = import_saes(spec, folders, load_host, reporter, origin, place, sets)
        made = self._publish_all(run, ids, artifacts, reporter, sets)
        reporter.commit(
            lambda session: uploads.remove_stale(
                session, self.workspace, self.settings.upload_keep_hours
            )
        )
        return made[0] if sets is None else {"saes": made}

    def _basis(self, run: Run, spec: BasisRun, reporter: RunReporter) -> dict[str, Any]:
        (sae_id,) = spec.sae_ids(run.id)
        beside = None if spec.beside is None else self._sae(spec.beside)[1]
        made = make_basis(
            spec,
            beside,
            self.workspace.folder(Kind.SAES, str(sae_id)),
            self.workspace,
            partial(self.hosts.load, reporter=reporter),
            reporter,
            {"run_id": str(run.id)},
            self.settings.max_memory_mb * 1_000_000,
        )
        name = reporter.commit(lambda session: self._publish(session, run, sae_id, made))
        return {"sae_id": str(sae_id), "name": name, "metrics": made.metrics}

    def _publish(
        self,
        session: Session,
        run: Run,
        sae_id: uuid.UUID,
        made: stages.TrainedArtifact,
        in_set: str | None = None,
    ) -> str:
        """Writes the SAE's row; the name it got.  ``in_set``: what its set is called here."""
        spec = made.spec
        basis = made.provenance.get("basis")
        model_id = publish.publish_model(session, made.host, spec.model)
        name = publish.free_sae_name(session, spec.name or default_name(spec, basis), sae_id)
        publish.publish_sae(
            session,
            id=sae_id,
            name=name,
            model_id=model_id,
            run_id=run.id,
            site=spec.site,
            architecture=basis["basis"] if basis else spec.sae.architecture,
            d_in=made.d_in,
            d_sae=spec.sae.d_sae,
            path=self.workspace.relative(made.folder),
            config=storable(_config(made, in_set)),
            metrics=storable(made.metrics),
            provenance=storable(made.provenance),
            created_by=run.created_by,
        )
        return name

    def _evaluate(self, run: Run, spec: EvaluateRun, reporter: RunReporter) -> dict[str, Any]:
        del run
        sae_id, folder = self._sae(spec.sae)
        load_host = partial(self.hosts.load, reporter=reporter)
        latents: list[ScaledLatent] = []
        metrics = stages.evaluate(spec, folder, self.workspace, load_host, reporter, latents.extend)

        def write(session: Session) -> None:
            publish.store_evaluation(session, sae_id, metrics)
            replace_latents(session, sae_id, latents)
            publish.copy_stamps(session, sae_id, folder.path)

        reporter.commit(write)
        return {"sae_id": str(sae_id), "metrics": metrics}

    def _evaluate_set(
        self, run: Run, spec: EvaluateSetRun, reporter: RunReporter
    ) -> dict[str, Any]:
        del run
        saes = [self._sae(each) for each in spec.saes]
        folders = [folder for _, folder in saes]
        load_host = partial(self.hosts.load, reporter=reporter)
        metrics = evaluate_set_run(spec, folders, self.workspace, load_host, reporter)
        return {"saes": [str(sae_id) for sae_id, _ in saes], "metrics": metrics}

    def _index(self, run: Run, spec: IndexRun, reporter: RunReporter) -> dict[str, Any]:
        del run
        sae_id, sae = self._sae(spec.sae)

        def folder_for(text_id: str) -> Path:
            return self.workspace.folder(Kind.INDEXES, f"{sae_id}-{text_id}")

        load_host = partial(self.hosts.load, reporter=reporter)
        reader, store, _ = stages.index(spec, sae, folder_for, self.workspace, load_host, reporter)
        path = self.workspace.relative(folder_for(store.text_id))

        def write(session: Session) -> dict[str, Any]:
            publish.copy_stamps(session, sae_id, sae.path)
            with reporter.stage("publish", reader.n_features, "features") as stage:
                return publish.publish_index(session, sae_id, reader, store, path, stage)

        index = reporter.commit(write)
        return {"sae_id": str(sae_id), "index": index}

    def _compare(self, run: Run, spec: CompareRun, reporter: RunReporter) -> dict[str, Any]:
        a, b = (named_sae(self.engine, name) for name in (spec.sae, spec.other))
        return Comparing(self.engine, self.workspace)(run.id, spec, a, b, reporter)

    def _layout(self, run: Run, spec: LayoutRun, reporter: RunReporter) -> dict[str, Any]:
        sae = named_sae(self.engine, spec.sae)
        return lay_out_sae(self.engine, self.workspace, run.id, spec, sae, reporter)

    def _concept(self, run: Run, spec: ConceptRun, reporter: RunReporter) -> dict[str, Any]:
        load_host = partial(self.hosts.load, reporter=reporter)
        return find_concept_run(self.engine, self.workspace, run.id, spec, load_host, reporter)

    def _task(self, run: Run, spec: TaskRun, reporter: RunReporter) -> dict[str, Any]:
        load_host = partial(self.hosts.load, reporter=reporter)
        return evaluate_task_run(self.engine, self.workspace, run.id, spec, load_host, reporter)

    def _benchmark(self, run: Run, spec: BenchmarkRun, reporter: RunReporter) -> dict[str, Any]:
        load_host = partial(self.hosts.load, reporter=reporter)
        return benchmark_run(self.engine, self.workspace, run.id, spec, load_host, reporter)

    def _attention(self, run: Run, spec: AttentionRun, reporter: RunReporter) -> dict[str, Any]:
        sae = named_sae(self.engine, spec.sae)
        load_host = partial(self.hosts.load, reporter=reporter)
        return survey_sae(self.workspace, run.id, spec, sae, load_host, reporter)

    def _circuit(self, run: Run, spec: CircuitRun, reporter: RunReporter) -> dict[str, Any]:
        host = self.hosts.load(spec.model, reporter)
        return find_circuit_of_run(run.id, spec, host, reporter)

    def _graph(self, run: Run, spec: GraphMaking, reporter: RunReporter) -> dict[str, Any]:
        load_host = partial(self.hosts.load, reporter=reporter)
        allowed = self.settings.max_memory_mb * 1_000_000
        return make_graphs(self.engine, self.workspace, run.id, spec, load_host, allowed, reporter)

    def _interpret(
        self, run: Run, spec: ExplainRun | ScoreRun, reporter: RunReporter
    ) -> dict[str, Any]:
        """With the host model; a scorer that runs it takes one feature after the other."""
        interpretation = Interpretation(self.settings, self.engine, partial(self._tools, reporter))
        if isinstance(spec, ScoreRun):
            alone = spec.scoring.judge.model_copy(update={"concurrency": 1})
            scoring = spec.scoring.model_copy(update={"judge": alone})
            spec = spec.model_copy(update={"scoring": scoring})
        work = interpretation.lead(run.id, run.attempt, spec, reporter)
        result = asyncio.run(until_stopped(work, reporter))
        if isinstance(spec, ExplainRun):
            inference = InferenceClient.of(self.settings)
            embeddings = Embeddings(self.engine, inference, self.settings.embedding_width)
            embeddings.fill(uuid.UUID(result["sae_id"]), reporter)
        return result

    @asynccontextmanager
    async def _tools(
        self, reporter: RunReporter, run_id: uuid.UUID, sae: Sae, spec: Part
    ) -> AsyncIterator[Tools]:
        folder = folder_of(self.workspace, sae)
        host = await asyncio.to_thread(self.hosts.load, folder.spec.model, reporter)
        await asyncio.to_thread(folder.check, host)
        hosted = folder.hosted(host)
        assert isinstance(spec, ExplainRun | ScoreRun)
        judge = None
        if needs_judge(spec):
            judge = open_judge(self.settings, self.engine, run_id, judge_of(spec))
        if judge is None:
            yield Tools(hosted=hosted)
            return
        async with judge:
            yield Tools(judge=judge, hosted=hosted)

    def _sae(self, reference: str) -> tuple[uuid.UUID, SaeFolder]:
        """To be read with the text that it was trained on."""
        sae = named_sae(self.engine, reference)
        folder = folder_of(self.workspace, sae)
        check_path(self.settings, folder.spec.text.source)
        if "weights" not in sae.provenance and sae.index is not None:
            check_first_index(folder.sae, self.workspace.locate(sae.index["path"]), sae.name)
        return sae.id, folder


def _config(made: stages.TrainedArtifact, in_set: str | None) -> dict[str, Any]:
    """What the SAE's row says of how it was made."""
    spec = made.spec.model_dump(mode="json", include={"sae", "text", "training"})
    spec["hooks"] = made.provenance["hooks"]
    if in_set is not None:
        spec["set"] = {**made.provenance["set"], "name": in_set}
    if "imported" in made.provenance:
        return {**spec, "training": None, "imported": made.provenance["imported"]}
    if "basis" in made.provenance:
        return {**spec, "training": None, "basis": made.provenance["basis"]}
    return spec


def make_execute(settings: Settings, engine: Engine) -> Execute:
    torch.set_float32_matmul_precision("high")
    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
    return GpuRuns(settings, engine)


if __name__ == "__main__":
    main("gpu", make_execute)
