"""Analyses from a notebook or a script, of SAEs and host models: no service, no database.

sae = monosemy.train({"sae": {"d_sae": 4096}}, home="my-work")
monosemy.layout(sae)
monosemy.concept(sae, targets=[...], retain=[...])

Each shows its progress, unless it is given a ``reporter``, and keeps its artifacts in ``home``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from monosemy.analysis.comparison import Comparison
from monosemy.analysis.layout import Layout
from monosemy.arguments import several
from monosemy.attribution.lens import Placed, PromptTokens, look
from monosemy.attribution.survey import AttentionSurvey
from monosemy.benchmarking.measured import MeasuredSAEs
from monosemy.console import reporting
from monosemy.data.characters import encodable
from monosemy.errors import SpecError
from monosemy.feature_circuits.kept_circuit import KeptFeatureCircuit
from monosemy.graphs.traced import TracedGraph
from monosemy.graphs.traced_several import TracedGraphs
from monosemy.home import HOME, Home, home_of
from monosemy.local_analyses import LocalAnalyses
from monosemy.progress import Reporter
from monosemy.sae_folder import SaeFolder
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
    parse_part,
    parse_run,
)
from monosemy.specs.inference.attention import AttentionAnswer, AttentionQuestion
from monosemy.specs.inference.graph_heads import (
    GraphHeads,
    GraphHeadsRequest,
    GraphScore,
    GraphScoreRequest,
)
from monosemy.specs.inference.graph_steering import (
    GraphEdit,
    GraphSteered,
    GraphSteerRequest,
)
from monosemy.specs.inference.prompts import TokenText
from monosemy.specs.rest.circuits import CircuitResult
from monosemy.specs.rest.concepts import ConceptResult
from monosemy.specs.rest.tasks import TaskResult


def compare(
    sae: SaeFolder | str | Path,
    other: SaeFolder | str | Path,
    home: str | Path | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> Comparison:
    """Which features of two SAEs belong together; ``options`` are fields of ``CompareRun``: ``by``
    (``decoder``, or ``tokens`` where both are indexed), ``method``, ``neighbours``."""
    spec = parse_run(CompareRun, {**options, "sae": "first", "other": "second"})
    with reporting(reporter) as progress:
        analyses = LocalAnalyses(Home(home_of(sae, home), progress))
        return analyses.compare(spec, analyses.home.sae(sae), analyses.home.sae(other))


def layout(
    sae: SaeFolder | str | Path,
    home: str | Path | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> Layout:
    """The decoder rows of an SAE in two dimensions by t-SNE, and how faithful that is; ``options``
    are fields of ``LayoutRun``: ``perplexity``, ``exaggeration``, ``iterations``, ``seed``,
    ``silent``.  ``sae`` and errors as in ``evaluate``; needs the extra ``layout``."""
    spec = parse_run(LayoutRun, {**options, "sae": "first"})
    with reporting(reporter) as progress:
        analyses = LocalAnalyses(Home(home_of(sae, home), progress))
        return analyses.layout(spec, analyses.home.sae(sae))


def task(
    saes: Sequence[SaeFolder | str | Path] = (),
    home: str | Path | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> TaskResult:
    """Whether SAEs are any good at a task whose attributes are known, beside a supervised
    dictionary, their frozen-decoder baselines, PCA and random directions; ``options`` are fields of
    ``TaskRun``: ``prompts``, ``positions``, ``features``, ``pairs``, ...

    Without SAEs give ``model`` and ``sites``.  Errors as in ``evaluate``, and ``DataError`` for
    prompts that cannot be used.
    """
    saes = _listed("saes", saes)
    spec = parse_run(TaskRun, {**options, "saes": [f"sae {place}" for place in range(len(saes))]})
    with reporting(reporter) as progress:
        analyses = LocalAnalyses(Home(home_of(saes[0] if saes else None, home), progress))
        return analyses.task(spec, [analyses.home.sae(each) for each in saes])


def benchmark(
    saes: Sequence[SaeFolder | str | Path],
    benchmarks: Sequence[str | Mapping[str, Any]] = ("core",),
    home: str | Path | None = None,
    reporter: Reporter | None = None,
) -> MeasuredSAEs:
    """How good SAEs are, each beside its baselines and chance, and which can be told apart.

    ``benchmarks``: names, or options with a name: ``{"benchmark": "core", "tokens": 8192}``.  What
    cannot be measured of one SAE is said (``not_measured``) and holds up no other; results that
    ``home`` has are not measured again.  Errors as in ``evaluate``, and ``DataError`` where nothing
    could be measured.
    """
    saes = _listed("saes", saes)
    if not isinstance(benchmarks, list | tuple):
        raise SpecError([("benchmarks", f"it takes a list of benchmarks, not {benchmarks!r:.80}")])
    named = [{"benchmark": each} if isinstance(each, str) else each for each in benchmarks]
    references = [f"sae {place}" for place in range(len(saes))]
    spec = parse_run(BenchmarkRun, {"saes": references, "benchmarks": named})
    with reporting(reporter) as progress:
        analyses = LocalAnalyses(Home(home_of(saes[0], home), progress))
        return analyses.benchmark(spec, [analyses.home.sae(each) for each in saes])


def concept(
    sae: SaeFolder | str | Path,
    home: str | Path | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> ConceptResult:
    """The features by which texts about something are told from others, a threshold, and how well
    both do on texts that chose nothing, beside other ways; ``options`` are fields of
    ``ConceptRun``: ``targets``, ``retain``, ``paraphrases``, ``called``, ``others``, ``scale``, ...

    ``name`` may be left out.  ``sae`` and errors as in ``evaluate``, and ``DataError`` for texts
    that cannot be used.
    """
    spec = parse_run(ConceptRun, {"name": "concept", **options, "sae": "first"})
    with reporting(reporter) as progress:
        analyses = LocalAnalyses(Home(home_of(sae, home), progress))
        return analyses.concept(spec, analyses.home.sae(sae))


def survey_attention(
    sae: SaeFolder | str | Path,
    home: str | Path | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> AttentionSurvey:
    """The heads behind an SAE at ``attn.hook_z``: their scores and features, and head and family of
    every feature that fires in its newest index; ``options`` are fields of ``AttentionRun``:
    ``rows``, ``examples``, ``top``, ``draws``, ``seed``.  ``sae`` and errors as in ``evaluate``."""
    spec = parse_run(AttentionRun, {**options, "sae": "first"})
    with reporting(reporter) as progress:
        analyses = LocalAnalyses(Home(home_of(sae, home), progress))
        return analyses.survey_attention(spec, analyses.home.sae(sae))


def circuit(
    spec: Mapping[str, Any] | CircuitRun | None = None,
    home: str | Path = HOME,
    reporter: Reporter | None = None,
) -> CircuitResult:
    """Which attention heads of a host model tell prompts of a task from others, beside what
    shuffled labels give, and whether they do the task; of a circuit spec (the ``kind`` may be left
    out).  Raises as ``train`` does.

    Example: ``monosemy.circuit({"prompts": {"task": "greater-than"}})``
    """
    parsed = parse_run(CircuitRun, {} if spec is None else spec)
    with reporting(reporter) as progress:
        return LocalAnalyses(Home(home, progress)).circuit(parsed)


@overload
def graph(
    prompt: str,
    saes: Sequence[SaeFolder | str | Path] | str,
    home: str | Path | None = None,
    reporter: Reporter | None = None,
    beside: Sequence[SaeFolder | str | Path] = (),
    **options: Any,
) -> TracedGraph: ...


@overload
def graph(
    prompt: list[str],
    saes: Sequence[SaeFolder | str | Path] | str,
    home: str | Path | None = None,
    reporter: Reporter | None = None,
    beside: Sequence[SaeFolder | str | Path] = (),
    **options: Any,
) -> TracedGraphs: ...


def graph(
    prompt: str | list[str],
    saes: Sequence[SaeFolder | str | Path] | str,
    home: str | Path | None = None,
    reporter: Reporter | None = None,
    beside: Sequence[SaeFolder | str | Path] = (),
    **options: Any,
) -> TracedGraph | TracedGraphs:
    """How a prompt becomes its next token: an attribution graph through SAEs that write what MLPs
    add to the stream, a list by layer or the name of a set in ``home``, and others ``beside``
    them (of attention); ``options`` are the other fields of ``GraphRun``: ``goals``, ``trace``,
    ``pruning``, ``check``, ``whole_tokens``.  A list of prompts gives a graph of each, and
    ``common`` says what they share.

    It shows its scores and strongest features; ``nodes``, ``edges``, ``drawing`` and ``save`` have
    the rest.  Errors as in ``evaluate``, and ``DataError`` as ``graphs.run.make_graph`` raises it.

    Example: ``monosemy.graph("The capital of Texas is", "tc", "my-work", check=None)``
    """
    in_set = saes if isinstance(saes, str) else None
    listed = [*(_listed("saes", saes) if in_set is None else []), *_listed("beside", beside)]
    named: dict[str, Any] = {"saes": [f"sae {place}" for place in range(len(listed))]}
    named |= {} if in_set is None else {"set": in_set}
    asked = {"prompts": prompt} if isinstance(prompt, list) else {"prompt": prompt}
    spec = parse_run(GraphRun, {**options, **asked, **named})
    first = None if in_set is not None or not listed else listed[0]
    with reporting(reporter) as progress:
        analyses = LocalAnalyses(Home(home_of(first, home), progress))
        members = [] if in_set is None else analyses.home.set(in_set)
        folders = [*members, *(analyses.home.sae(each) for each in listed)]
        if isinstance(prompt, list):
            return analyses.graphs(spec, folders)
        return analyses.graph(spec, folders)


def steer_graph(
    graph: TracedGraph,
    edits: Sequence[GraphEdit | Mapping[str, Any]],
    home: str | Path | None = None,
    saes: Sequence[SaeFolder | str | Path] | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> GraphSteered:
    """Features of a graph's prompt changed, all at once: next tokens before and after, of each goal
    the change that the graph predicts beside the real one, and what else moves.

    An edit names a ``node``, or ``sae`` and ``latent``, with ``position``, ``mode`` (``ablate``
    without one) and ``strength``; ``options`` are the other fields of ``GraphSteering``: ``held``,
    ``top``, ``features``.  ``saes``: those that the graph was traced through, where they are not in
    ``home``.  ``SpecError`` names every fault of an edit, ``DataError`` what cannot be changed, and
    SAEs or a host model that are others now.

    Example: ``monosemy.steer_graph(graph, [{"node": 12, "mode": "scale", "strength": 2}],
    "my-work")``
    """
    asked = parse_part(
        GraphSteerRequest, {**options, "edits": several("edits", edits, "a list of edits")}
    )
    with reporting(reporter) as progress:
        analyses, folders = _graph_folders(home, saes, progress)
        return analyses.steer_graph(graph, asked, folders)


def graph_heads(
    graph: TracedGraph,
    target: int,
    source: int | None = None,
    home: str | Path | None = None,
    token: int | None = None,
    top: int = 20,
    saes: Sequence[SaeFolder | str | Path] | None = None,
    reporter: Reporter | None = None,
) -> GraphHeads:
    """Which heads carry the edge from one node of a graph to another, layer by layer; or, with
    ``token``, what heads bring to a node from the stream at that token.

    ``saes``: those that the graph was traced through, where they are not in ``home``.
    ``SpecError`` for nodes that have no such edge, ``DataError`` for SAEs or a host model that are
    others now.

    Example: ``monosemy.graph_heads(graph, 340, 12, "my-work").heads[0]``
    """
    asked = {"target": target, "source": source, "token": token, "top": top}
    request = parse_part(GraphHeadsRequest, asked)
    with reporting(reporter) as progress:
        analyses, folders = _graph_folders(home, saes, progress)
        return analyses.graph_heads(graph, request, folders)


def graph_score(
    graph: TracedGraph,
    layer: int,
    head: int,
    token: int,
    source: int,
    home: str | Path | None = None,
    listed: int = 20,
    saes: Sequence[SaeFolder | str | Path] | None = None,
    reporter: Reporter | None = None,
) -> GraphScore:
    """Why a head looks from one token at another: its score as pairs of a graph's sources.

    ``saes`` and errors as in ``graph_heads``; ``DataError`` also for a head or a token that there
    is not.

    Example: ``monosemy.graph_score(graph, 4, 7, token=9, source=3, home="my-work").pairs[0]``
    """
    asked = {"layer": layer, "head": head, "token": token, "source": source, "listed": listed}
    request = parse_part(GraphScoreRequest, asked)
    with reporting(reporter) as progress:
        analyses, folders = _graph_folders(home, saes, progress)
        return analyses.graph_score(graph, request, folders)


def _graph_folders(
    home: str | Path | None,
    saes: Sequence[SaeFolder | str | Path] | None,
    progress: Reporter,
) -> tuple[LocalAnalyses, list[SaeFolder] | None]:
    """(what runs, the SAEs that are given; None: those of the graph)."""
    given = None if saes is None else _listed("saes", saes)
    first = given[0] if given else None
    analyses = LocalAnalyses(Home(home_of(first, home), progress))
    return analyses, None if given is None else [analyses.home.sae(each) for each in given]


def feature_circuit(
    saes: Sequence[SaeFolder | str | Path],
    home: str | Path | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> KeptFeatureCircuit:
    """Which features of SAEs at several sites carry a difference between pairs of prompts, and what
    they do on pairs left out; ``options`` are the fields of ``FeatureCircuitRun``: ``pairs``,
    ``positions``, ``method``, ``midpoints``, ``nodes``, ...

    It shows what each site carries; ``circuit`` has all of it, ``nodes``, ``edges``, ``drawing``
    and ``save`` the graph.  Errors as in ``evaluate``, and ``DataError`` as
    ``feature_circuits.run.make_feature_circuit`` raises it.

    Example: ``monosemy.feature_circuit(["early", "late"], "my-work", positions="aligned")``
    """
    saes = _listed("saes", saes)
    named = [f"sae {place}" for place in range(len(saes))]
    spec = parse_run(FeatureCircuitRun, {**options, "saes": named})
    with reporting(reporter) as progress:
        analyses = LocalAnalyses(Home(home_of(saes[0] if saes else None, home), progress))
        return analyses.feature_circuit(spec, [analyses.home.sae(each) for each in saes])


def attention(
    sae: SaeFolder | str | Path,
    text: str,
    home: str | Path | None = None,
    through: Sequence[SaeFolder | str | Path] = (),
    reporter: Reporter | None = None,
    **options: Any,
) -> AttentionAnswer:
    """Where features of an SAE on ``attn.hook_z`` read from on a text: by head and by token.

    ``through``: SAEs that attributions are taken back through, by their number from 1 (on the
    stream before its block, or of blocks below); ``options`` are the other fields of
    ``AttentionQuestion``: ``tokens``, ``features``, ``top_k``, ``depth``, ``listed``, ``pair``.
    ``sae`` and errors as in ``evaluate``; ``DataError`` also for what ``attribution.lens.look``
    refuses.
    """
    through = _listed("through", through)
    question = parse_part(AttentionQuestion, {**options, "text": text})
    with reporting(reporter) as progress:
        analyses = LocalAnalyses(Home(home_of(sae, home), progress))
        folder = analyses.home.sae(sae)
        hosted = [analyses.home.hosted(each) for each in (folder, *map(analyses.home.sae, through))]
    host = hosted[0].host
    if any(each.host.fingerprint != host.fingerprint for each in hosted):
        raise SpecError([("through", "these SAEs are of another host model")])
    tokenizer, bos = host.tokenizer, host.bos_id
    ids = tokenizer(encodable(text)[0], add_special_tokens=False)["input_ids"]
    skip = int(folder.spec.text.prepend_bos and bos is not None)
    ids = [bos, *ids] if skip else ids
    texts = [
        TokenText(id=token, text=piece)
        for token, piece in zip(ids, host.token_bytes().pieces(ids), strict=True)
    ]
    placed = [Placed(each.sae.to(host.device), each.site) for each in hosted]
    return look(host, PromptTokens(ids, skip, texts), placed[0], placed[1:], question)


def _listed(name: str, saes: Sequence[SaeFolder | str | Path]) -> Sequence[SaeFolder | str | Path]:
    """``saes``; ``SpecError`` for a single one, or anything else that is no list."""
    if not isinstance(saes, list | tuple):
        raise SpecError([(name, f"it takes a list of SAEs, not {saes!r:.80}")])
    return saes
