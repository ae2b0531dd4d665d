"""Graph runs, as the workers and the notebook both do them: SAEs in folders become graphs that know
what they were made with, and read their prompts again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from monosemy.attribution.reading import check_prompt
from monosemy.errors import DataError
from monosemy.graphs.firing import Firing
from monosemy.graphs.graph import Graph
from monosemy.graphs.head_answers import answer_heads, answer_score
from monosemy.graphs.node_places import asked_places, number_sources
from monosemy.graphs.placed_edits import KnownSae, number_nodes, placed_edits, same_goals
from monosemy.graphs.prompt import ReplacedPrompt, read_prompt
from monosemy.graphs.replacement import ReplacementModel
from monosemy.graphs.run import make_graph
from monosemy.graphs.steering import steer_graph
from monosemy.graphs.traced import TracedGraph
from monosemy.graphs.whole_influence import WholeInfluence
from monosemy.hosted_sae import HostedSAE
from monosemy.interp.host_text import HostText
from monosemy.models.host import HostModel
from monosemy.models.precision import check_devices
from monosemy.progress import SILENT, Reporter, Stage, StageProgress
from monosemy.run_hosts import HostLoader
from monosemy.sae_folder import NamedFolder, SaeFolder
from monosemy.specs.graphs import GraphSae, GraphSpec
from monosemy.specs.inference.graph_heads import (
    GraphHeads,
    GraphHeadsRequest,
    GraphScore,
    GraphScoreRequest,
)
from monosemy.specs.inference.graph_steering import GraphSteered, GraphSteerRequest
from monosemy.versions import versions

PROMPTS = "prompts"
"""Stage of a run of several prompts."""


class GraphTracing:
    """Graphs through SAEs in folders, whose places are the nodes' ``coder``."""

    def __init__(
        self, saes: Sequence[NamedFolder], load_host: HostLoader, allowed: int | None = None
    ) -> None:
        """``allowed``: bytes that one graph may take.

        Raises ``DataError`` as ``hosted_saes`` does.
        """
        self.allowed = allowed
        self.host, self.coders, self.stamps = hosted_saes(saes, load_host)
        self._saes, self._load_host = saes, load_host
        self._beside: list[tuple[HostModel, list[HostedSAE]]] = []
        self.model = saes[0].folder.spec.model

    def check_prompts(self, specs: Sequence[GraphSpec]) -> None:
        """``DataError`` for the first prompt that the host cannot read, before any is traced."""
        text = HostText(self.host)
        for place, spec in enumerate(specs):
            try:
                check_prompt(self.host, text.with_bos(text.tokens(spec.prompt)))
            except DataError as error:
                raise _of_prompt(place, spec, error) from None

    def graph(self, spec: GraphSpec, reporter: Reporter = SILENT) -> TracedGraph:
        """Its progress are the stages ``graph`` (rows traced) and ``check``.  Raises ``DataError``
        for one that would take more bytes than are allowed, and as ``make_graph`` does;
        ``ModelError`` for more devices than there are."""
        beside = self._other_devices(spec.trace.devices)
        made = make_graph(self.host, self.coders, spec, reporter, self.allowed, beside)
        return TracedGraph(
            graph=with_origin(made.pruned.graph, self.host, self.stamps),
            whole=WholeInfluence.of(made.whole, made.pruned.kept),
            firing=Firing.of(made.whole),
            summary=made.summary,
            spec=spec,
            prompt=spec.prompt,
            model=self.model.name,
            saes=list(self.stamps),
        )

    def _other_devices(self, count: int) -> list[tuple[HostModel, list[HostedSAE]]]:
        """Host and coders on the devices that trace beside the first; each GPU loads them once."""
        first = self.host.device
        check_devices(first.type, count, "trace.devices")
        if first.type != "cuda":
            return [(self.host, self.coders)] * (count - 1)
        places = [place for place in range(count) if place != (first.index or 0)][: count - 1]
        for place in places[len(self._beside) :]:
            host, coders, _ = hosted_saes(self._saes, self._load_host, device=f"cuda:{place}")
            self._beside.append((host, coders))
        return self._beside[: count - 1]

    def graph_among(
        self, place: int, spec: GraphSpec, stage: Stage, outer: Reporter
    ) -> TracedGraph:
        """One of several prompts, told of as metrics of their ``stage``; what is wrong says which
        prompt it is."""
        outer.log(f"prompt {place + 1}: {spec.prompt:.80}")
        try:
            return self.graph(spec, _WithinStage(stage, outer))
        except DataError as error:
            raise _of_prompt(place, spec, error) from None


def _of_prompt(place: int, spec: GraphSpec, error: DataError) -> DataError:
    return DataError(f"Prompt {place + 1} ({spec.prompt!r:.60}): {error}")


class _WithinStage(Reporter):
    """Tells of the stages of one piece as metrics of the stage that counts the pieces."""

    def __init__(self, stage: Stage, outer: Reporter) -> None:
        super().__init__()
        self._stage, self._outer = stage, outer

    def check(self) -> None:
        self._outer.check()

    def update(self, progress: StageProgress) -> None:
        self._stage.advance(0, within=progress.name, rows=progress.done, of=progress.total)

    def log(self, message: str, **fields: Any) -> None:
        self._outer.log(message, **fields)


def hosted_saes(
    saes: Sequence[NamedFolder], load_host: HostLoader, **changes: Any
) -> tuple[HostModel, list[HostedSAE], list[GraphSae]]:
    """The host model of SAEs, they in it, and what says which they were.

    ``changes`` to how the host model is loaded.  ``DataError`` for SAEs of several host models, and
    where one or the host model has changed since the training.
    """
    model = saes[0].folder.spec.model
    for each in saes:
        if each.folder.spec.model.name != model.name:
            raise DataError(
                f"'{each.name}' is of {each.folder.spec.model.name}, '{saes[0].name}' of"
                f" {model.name}.",
                "Give SAEs of one host model.",
            )
    host = load_host(model.model_copy(update=changes))
    coders, stamps = [], []
    for each in saes:
        each.folder.check(host)
        coders.append(each.folder.hosted(host))
        stamps.append(GraphSae(id=each.reference, name=each.name, digest=each.folder.digest))
    return host, coders, stamps


def with_origin(graph: Graph, host: HostModel, stamps: Sequence[GraphSae]) -> Graph:
    """The graph with fingerprints of what it was made with."""
    about = {
        **graph.about,
        "host": {"name": host.name, "fingerprint": host.fingerprint},
        "dtype": str(host.dtype).removeprefix("torch."),
        "saes": [{"name": each.name, "digest": each.digest} for each in stamps],
        "versions": versions(),
    }
    return replace(graph, about=about)


def steer_traced(
    graph: TracedGraph,
    asked: GraphSteerRequest,
    saes: Sequence[SaeFolder],
    load_host: HostLoader,
) -> GraphSteered:
    """Features of a traced graph's prompt changed; ``saes`` are those that it was traced through.

    Raises ``DataError`` as ``read_again`` and ``steer_graph`` do; ``SpecError`` as
    ``placed_edits``.
    """
    _check_same(graph, saes)
    known = [
        KnownSae((stamp.name, stamp.id), each.sae.d_sae)
        for stamp, each in zip(graph.saes, saes, strict=True)
    ]
    edits = placed_edits(asked.edits, graph.graph, known)
    goals = same_goals(graph.graph, graph.spec.goals)
    answer = steer_graph(read_again(graph, saes, load_host), goals, edits, asked)
    number_nodes(answer, graph.graph)
    return answer


def heads_of_traced(
    graph: TracedGraph,
    asked: GraphHeadsRequest,
    saes: Sequence[SaeFolder],
    load_host: HostLoader,
) -> GraphHeads:
    """Which heads carry an edge of a traced graph; ``DataError`` as ``read_again`` and
    ``answer_heads`` raise it, ``SpecError`` as ``asked_places``."""
    places = asked_places(graph.graph, asked)
    prompt = read_again(graph, saes, load_host)
    source = asked.token if asked.token is not None else places["source"]
    goals = same_goals(graph.graph, graph.spec.goals)
    return answer_heads(prompt, goals, places["target"], source, asked.top)


def score_of_traced(
    graph: TracedGraph,
    asked: GraphScoreRequest,
    saes: Sequence[SaeFolder],
    load_host: HostLoader,
) -> GraphScore:
    """Why a head looks where it looks, by the nodes of a traced graph; raises as ``read_again`` and
    ``answer_score`` do."""
    answer = answer_score(read_again(graph, saes, load_host), asked)
    number_sources([*answer.query, *answer.key], graph.graph)
    return answer


def read_again(
    graph: TracedGraph, saes: Sequence[SaeFolder], load_host: HostLoader
) -> ReplacedPrompt:
    """The prompt of a traced graph; ``DataError`` where the SAEs or their host model are others
    than the graph's."""
    _check_same(graph, saes)
    host = load_host(saes[0].spec.model)
    if host.fingerprint != graph.graph.about["host"]["fingerprint"]:
        raise DataError(f"The graph was traced in another {host.name}.", "Trace the prompt again.")
    for each in saes:
        each.check(host)
    model = ReplacementModel(host, [each.hosted(host) for each in saes], graph.spec.whole_tokens)
    return read_prompt(model, graph.graph.ids)


def _check_same(graph: TracedGraph, saes: Sequence[SaeFolder]) -> None:
    if [each.digest for each in saes] != [each.digest for each in graph.saes]:
        names = ", ".join(each.name for each in graph.saes)
        raise DataError(
            f"The graph was traced through {names}; these SAEs are others, or have changed.",
            "Give those, or trace the prompt again.",
        )
