"""A pruned graph with all that is said of it, to look at and to keep.  No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

from monosemy.errors import DataError
from monosemy.graphs.drawing import draw
from monosemy.graphs.firing import Firing
from monosemy.graphs.graph import Graph, NodeKind
from monosemy.graphs.listing import End, list_edges, list_nodes, site_labels
from monosemy.graphs.store import write_graph
from monosemy.graphs.supernodes import LOOKED_AT, propose_supernodes
from monosemy.graphs.whole_influence import WholeInfluence
from monosemy.interchange.attribution_graph import export_graph
from monosemy.interchange.files import write_json
from monosemy.specs.graphs import GraphEdge, GraphNode, GraphSae, GraphSpec, GraphSummary
from monosemy.specs.rest.graphs import GraphDrawing
from monosemy.specs.rest.supernodes import ProposedSupernodes

_SHOWN = 10


@dataclass(frozen=True, kw_only=True, repr=False)
class KeptGraph:
    """A graph to look at: of a prompt, or of a feature circuit."""

    graph: Graph
    """As it is kept; ``about`` has fingerprints of the host model and the SAEs."""
    whole: WholeInfluence
    summary: GraphSummary
    model: str
    saes: list[GraphSae]
    """In the order of the nodes' ``coder``."""
    prompt: str
    """Of a feature circuit the first of its prompts."""

    def nodes(
        self,
        kind: str | None = None,
        layer: int | None = None,
        position: int | None = None,
        search: str = "",
        limit: int | None = None,
    ) -> list[GraphNode]:
        """Those through which most influence flows first; ``search``: a piece of the label, or of
        the token.  ``DataError`` for a kind that there is not."""
        if kind is not None and kind not in NodeKind.__members__:
            raise DataError(f"'{kind}' is no kind of node.", f"There are {', '.join(_KINDS)}.")
        kinds = None if kind is None else [NodeKind[kind]]
        return list_nodes(self.graph, self._labels(), kinds, layer, position, search, 0, limit)[1]

    def edges(self, node: int, end: End = "in", limit: int | None = None) -> list[GraphEdge]:
        """Edges into a node, or out of it, the largest first.  ``DataError`` for a node that there
        is not."""
        try:
            return list_edges(self.graph, node, end, 0, limit)[1]
        except IndexError as error:
            raise DataError(f"There is no such node: {error}.") from None

    def drawing(self, nodes: float = 1.0, edges: float = 1.0) -> GraphDrawing:
        """As columns, pruned further by shares of its influence."""
        return draw(self.graph, self.whole, nodes, edges, self._labels())

    def supernodes(self, features: int = LOOKED_AT) -> ProposedSupernodes:
        """Groups of features that do the same, proposed from their edges; of those of the most
        influence."""
        return propose_supernodes(self.graph, features, self._labels())

    def save(
        self,
        to: str | Path,
        form: Literal["attribution-graph", "npz"] | None = None,
        labels: Mapping[int, str] | None = None,
    ) -> Path:
        """Writes the JSON that circuit-tracer's and Neuronpedia's viewers read, or (``npz``, and
        where the name ends so) arrays that ``graphs.store.read_graph`` does."""
        target = Path(to)
        if form == "npz" or (form is None and target.suffix == ".npz"):
            write_graph(target, self.graph)
        else:
            name = target.stem or "graph"
            write_json(target, export_graph(self.graph, name, self.model, self.prompt, labels))
        return target

    def _labels(self) -> dict[int, str]:
        return site_labels(self.graph, [each.name for each in self.saes])

    def __repr__(self) -> str:
        return "\n".join(
            f"{name}: {value}" for name, value in [("graph", self.prompt), *self._facts()]
        )

    def _repr_html_(self) -> str:
        """Facts, and the features through which most influence flows, as tables."""
        facts = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in self._facts()
        )
        rows = "".join(
            f"<tr><td>{escape(each.label)}</td>"
            f"<td>{escape(self.graph.texts[each.position])}</td><td>{each.position}</td>"
            f"<td>{each.value:.3g}</td><td>{each.influence:.4f}</td></tr>"
            for each in self.nodes("feature", limit=_SHOWN)
        )
        heads = "".join(
            f"<th>{name}</th>" for name in ("feature", "token", "position", "value", "influence")
        )
        return (
            f"<p>{escape(self.prompt)}</p><table>{facts}</table>"
            f"<table><tr>{heads}</tr>{rows}</table>"
        )

    def _facts(self) -> list[tuple[str, str]]:
        summary = self.summary
        goals = ", ".join(f"{each.label!r} {each.weight:.3f}" for each in summary.goals)
        return [
            ("host model", self.model),
            ("explains", goals),
            ("nodes, edges", f"{summary.nodes}, {summary.edges}"),
        ]


@dataclass(frozen=True, kw_only=True, repr=False)
class TracedGraph(KeptGraph):
    """What a run of kind ``graph`` makes; its graph is pruned."""

    spec: GraphSpec
    firing: Firing

    def _facts(self) -> list[tuple[str, str]]:
        summary, facts = self.summary, super()._facts()
        for name, scores in (("whole", summary.whole), ("pruned", summary.pruned)):
            facts.append(
                (
                    name,
                    f"replacement {scores.replacement:.3f}, completeness {scores.completeness:.3f}",
                )
            )
        facts.append(
            ("traced", f"{summary.traced} features; untraced share {summary.untraced:.4f}")
        )
        check = summary.check
        if check is not None and check.nodes is not None:
            slope = check.nodes.strongest.slope
            if slope is not None:
                change = f"{slope.value:.2f} ({slope.low:.2f} to {slope.high:.2f})"
                facts.append(("real change per predicted", change))
        return facts


_KINDS = tuple(NodeKind.__members__)
