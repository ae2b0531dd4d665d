"""Analyses of SAEs and host models in this process: of specs, and a folder of artifacts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monosemy.analysis.comparison import Comparison, by_decoder, by_tokens, compare_sides
from monosemy.analysis.layout import Layout, lay_out, require_package
from monosemy.attribution.survey import AttentionSurvey, survey_attention
from monosemy.benchmarking.kept import FolderResults
from monosemy.benchmarking.measured import MeasuredSAEs
from monosemy.benchmarking.run import Benchmarking
from monosemy.circuits.search import find_circuit
from monosemy.errors import DataError, SpecError
from monosemy.feature_circuit_stage import find_feature_circuit_run
from monosemy.feature_circuits.kept_circuit import KeptFeatureCircuit
from monosemy.graph_stage import (
    PROMPTS,
    GraphTracing,
    heads_of_traced,
    score_of_traced,
    steer_traced,
)
from monosemy.graphs.traced import KeptGraph, TracedGraph
from monosemy.graphs.traced_several import TracedGraphs
from monosemy.home import Home
from monosemy.sae_folder import NamedFolder, SaeFolder
from monosemy.specs import (
    AttentionRun,
    BenchmarkRun,
    CircuitRun,
    CompareRun,
    ConceptRun,
    FeatureCircuitRun,
    GraphRun,
    LayoutRun,
    TaskRun,
)
from monosemy.specs.inference.graph_heads import (
    GraphHeads,
    GraphHeadsRequest,
    GraphScore,
    GraphScoreRequest,
)
from monosemy.specs.inference.graph_steering import GraphSteered, GraphSteerRequest
from monosemy.specs.rest.circuits import CircuitResult
from monosemy.specs.rest.concepts import ConceptResult
from monosemy.specs.rest.tasks import TaskResult


class LocalAnalyses:
    """Carries out the specs of analyses, with the artifacts and host models of ``home``."""

    def __init__(self, home: Home) -> None:
        self.home = home

    @property
    def executors(self) -> Mapping[str, Callable[[Any], dict[str, Any]]]:
        """By kind of run: what it comes to, as JSON."""
        return {
            "compare": self._compare,
            "layout": self._layout,
            "task": self._task,
            "concept": self._concept,
            "benchmark": self._benchmark,
            "attention": self._attention,
            "circuit": lambda spec: self.circuit(spec).model_dump(mode="json"),
            "graph": self._graph,
            "feature_circuit": self._feature_circuit,
        }

    def compare(
        self, spec: CompareRun, sae: SaeFolder | None = None, other: SaeFolder | None = None
    ) -> Comparison:
        """Which features of two SAEs belong together."""
        if spec.by == "explanations":
            raise DataError(
                "Explanations are embedded by a service alone.", "Compare by decoder or tokens."
            )
        a, b = sae or self.home.sae(spec.sae), other or self.home.sae(spec.other)
        if a.path == b.path:
            raise SpecError([("other", "this is the same SAE as sae")])
        if spec.by == "decoder":
            a.check()
            b.check()
            everything, names = slice(None), (a.path.name, b.path.name)
            sides = by_decoder(
                a.sae.decoder_rows(everything), b.sae.decoder_rows(everything), names
            )
        else:
            of_a, of_b = self.home.texts(a).reader, self.home.texts(b).reader
            if of_a.text_id != of_b.text_id:
                raise DataError(
                    f"'{a.path.name}' and '{b.path.name}' are not indexed over one text.",
                    "Index both over the same text.",
                )
            sides = by_tokens(of_a, of_b)
        return compare_sides(sides, spec, self.home.reporter)

    def layout(self, spec: LayoutRun, sae: SaeFolder | None = None) -> Layout:
        """Where the features of an SAE lie in the plane; silent ones by its newest index here."""
        require_package()
        sae = sae or self.home.sae(spec.sae)
        sae.check()
        fires = None
        if self.home.is_indexed(sae):
            fires = self.home.texts(sae).reader.counts > 0
        return lay_out(
            sae.sae.decoder_rows(slice(None)), spec, sae.digest, fires, self.home.reporter
        )

    def task(self, spec: TaskRun, saes: Sequence[SaeFolder] | None = None) -> TaskResult:
        """What the SAEs of a spec, the supervised dictionary and baselines are worth at a task."""
        named = _each_once([self.home.sae(each) for each in spec.saes] if saes is None else saes)
        # Only here: scipy takes a while to import.
        from monosemy.circuits.supervised.run import run_task

        return run_task(spec, named, self.home.host, self.home.reporter)

    def benchmark(
        self, spec: BenchmarkRun, saes: Sequence[SaeFolder] | None = None
    ) -> MeasuredSAEs:
        """What benchmarks find of the SAEs of a spec; results that are kept in this home are not
        measured again."""
        named = _each_once([self.home.sae(each) for each in spec.saes] if saes is None else saes)
        kept = FolderResults(self.home.workspace)
        run = Benchmarking(self.home.host, self.home.workspace, kept, self.home.reporter)
        return MeasuredSAEs(run.run(spec, named), named, kept)

    def survey_attention(self, spec: AttentionRun, sae: SaeFolder | None = None) -> AttentionSurvey:
        """The heads behind an SAE, by its newest index here."""
        sae = sae or self.home.sae(spec.sae)
        texts, hosted = self.home.texts(sae), self.home.hosted(sae)
        return survey_attention(
            hosted, texts.reader, texts.store, spec, sae.digest, self.home.reporter
        )

    def circuit(self, spec: CircuitRun) -> CircuitResult:
        """The heads of a host model that tell prompts of a task from others."""
        return find_circuit(self.home.host(spec.model), spec, self.home.reporter)

    def graph(self, spec: GraphRun, saes: Sequence[SaeFolder] | None = None) -> TracedGraph:
        """The attribution graph of a spec's prompt through its SAEs, in the order of their
        layers."""
        (asked,) = spec.graph_specs()
        return self._tracing(spec, saes).graph(asked, self.home.reporter)

    def graphs(self, spec: GraphRun, saes: Sequence[SaeFolder] | None = None) -> TracedGraphs:
        """Those of all of a spec's prompts."""
        specs, tracing = spec.graph_specs(), self._tracing(spec, saes)
        tracing.check_prompts(specs)
        reporter = self.home.reporter
        made = []
        with reporter.stage(PROMPTS, total=len(specs), unit="prompts") as stage:
            for place, asked in enumerate(specs):
                made.append(tracing.graph_among(place, asked, stage, reporter))
                stage.advance()
        return TracedGraphs(made)

    def _tracing(self, spec: GraphRun, saes: Sequence[SaeFolder] | None) -> GraphTracing:
        if saes is None:
            in_set = [] if spec.set is None else self.home.set(spec.set)
            saes = [*in_set, *(self.home.sae(each) for each in spec.saes)]
        return GraphTracing(_each_once(saes), self.home.host)

    def feature_circuit(
        self, spec: FeatureCircuitRun, saes: Sequence[SaeFolder] | None = None
    ) -> KeptFeatureCircuit:
        """Which features of the SAEs of a spec carry the difference between its pairs."""
        folders = _each_once([self.home.sae(each) for each in spec.saes] if saes is None else saes)
        return find_feature_circuit_run(spec, folders, self.home.host, self.home.reporter)

    def steer_graph(
        self,
        graph: TracedGraph,
        asked: GraphSteerRequest,
        saes: Sequence[SaeFolder] | None = None,
    ) -> GraphSteered:
        """Features of a graph's prompt changed; its SAEs by the folders that it was traced from."""
        return steer_traced(graph, asked, self._saes_of(graph, saes), self.home.host)

    def graph_heads(
        self,
        graph: TracedGraph,
        asked: GraphHeadsRequest,
        saes: Sequence[SaeFolder] | None = None,
    ) -> GraphHeads:
        """Which heads carry an edge of a graph."""
        return heads_of_traced(graph, asked, self._saes_of(graph, saes), self.home.host)

    def graph_score(
        self,
        graph: TracedGraph,
        asked: GraphScoreRequest,
        saes: Sequence[SaeFolder] | None = None,
    ) -> GraphScore:
        """Why a head looks where it looks, by the nodes of a graph."""
        return score_of_traced(graph, asked, self._saes_of(graph, saes), self.home.host)

    def _saes_of(self, graph: TracedGraph, saes: Sequence[SaeFolder] | None) -> Sequence[SaeFolder]:
        return [self.home.sae(each.id) for each in graph.saes] if saes is None else saes

    def concept(self, spec: ConceptRun, sae: SaeFolder | None = None) -> ConceptResult:
        """The features of a concept, and how well texts are told by them."""
        # Only here: scipy takes a while to import.
        from monosemy.concepts.run import run_concept

        folder = self.home.sae(spec.sae) if sae is None else sae
        return run_concept(spec, folder, self.home.host, self.home.reporter)

    # ------------------------------------------------------------------ results as JSON
    def _compare(self, spec: CompareRun) -> dict[str, Any]:
        comparison = self.compare(spec)
        partners = [list(link[:3]) for link in comparison.links if link[3]]
        return {"summary": comparison.summary, "partners": partners}

    def _attention(self, spec: AttentionRun) -> dict[str, Any]:
        """The features too: no database keeps them."""
        survey = self.survey_attention(spec)
        features = [each.model_dump(mode="json") for each in survey.features]
        summary = survey.summary.model_dump(mode="json")
        return {"sae": spec.sae, **summary, "feature_attention": features}

    def _layout(self, spec: LayoutRun) -> dict[str, Any]:
        """The places too: no database keeps them."""
        layout = self.layout(spec)
        places = [None if np.isnan(x) else [x, y] for x, y in layout.places.tolist()]
        return {"sae": spec.sae, **layout.summary.model_dump(mode="json"), "places": places}

    def _concept(self, spec: ConceptRun) -> dict[str, Any]:
        return self.concept(spec).model_dump(mode="json")

    def _graph(self, spec: GraphRun) -> dict[str, Any]:
        if spec.prompt is not None:
            return self._kept(self.graph(spec), self.home.graph_file(spec))
        made = self.graphs(spec)
        files = [self.home.graph_file(spec, place + 1) for place in range(len(made))]
        return {
            "graphs": [
                {"prompt": each.spec.prompt, **self._kept(each, file)}
                for each, file in zip(made, files, strict=True)
            ]
        }

    def _feature_circuit(self, spec: FeatureCircuitRun) -> dict[str, Any]:
        made = self.feature_circuit(spec)
        kept = self._kept(made, self.home.graph_file(spec))
        return {**kept, "feature_circuit": made.circuit.model_dump(mode="json")}

    def _kept(self, made: KeptGraph, file: Path) -> dict[str, Any]:
        """Nodes and edges too, as a file: no database keeps them."""
        made.save(file)
        return {
            "model": made.model,
            "saes": [each.name for each in made.saes],
            "file": str(file),
            **made.summary.model_dump(mode="json"),
        }

    def _benchmark(self, spec: BenchmarkRun) -> dict[str, Any]:
        return self.benchmark(spec).summary.model_dump(mode="json")

    def _task(self, spec: TaskRun) -> dict[str, Any]:
        return self.task(spec).model_dump(mode="json")


def _each_once(saes: Sequence[SaeFolder]) -> list[NamedFolder]:
    """``SpecError`` for one that is there twice."""
    if len({each.path for each in saes}) < len(saes):
        raise SpecError([("saes", "an SAE is named twice")])
    return [NamedFolder(each.name, each.path.name, each) for each in saes]
