"""Attribution graphs: how prompts become their next tokens."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from monosemy.arguments import several
from monosemy.client.listing import listed
from monosemy.client.transport import Transport, segment
from monosemy.specs import parse_part
from monosemy.specs.graphs import GraphNode, Held
from monosemy.specs.inference.graph_heads import (
    GraphHeads,
    GraphHeadsRequest,
    GraphScore,
    GraphScoreRequest,
)
from monosemy.specs.inference.graph_steering import GraphEdit, GraphSteered, GraphSteerRequest
from monosemy.specs.rest.common_graphs import Alignment, CommonView
from monosemy.specs.rest.graphs import (
    GraphDrawing,
    GraphEdgeView,
    GraphHeader,
    GraphKind,
    GraphView,
)
from monosemy.specs.rest.supernodes import ProposedSupernodes

GraphReference = uuid.UUID | str | GraphHeader | GraphView
"""Id or name of a graph; or one that was answered before."""


class Graphs:
    """``client.graphs``; every method raises ``ApiError``.  Runs of kind ``graph`` and
    ``feature_circuit`` make them."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def list(
        self,
        *,
        kind: GraphKind | None = None,
        model: str | None = None,
        set: str | None = None,
        search: str | None = None,
        run: uuid.UUID | str | None = None,
        limit: int | None = None,
    ) -> Iterator[GraphHeader]:
        """Newest first; ``kind``: those that such runs make; ``search``: those whose prompts have
        all these words; ``run``: those that it made."""
        asked = {"kind": kind, "model": model, "set": set, "search": search, "run": run}
        return listed(self._http, GraphHeader, "/graphs", limit, **asked)

    def get(self, graph: GraphReference) -> GraphView:
        """What it explains, its scores, and how far it is to be believed."""
        return self._http.call(GraphView, "GET", _path(graph))

    def nodes(
        self,
        graph: GraphReference,
        *,
        kind: str | None = None,
        layer: int | None = None,
        position: int | None = None,
        search: str | None = None,
        limit: int | None = None,
    ) -> Iterator[GraphNode]:
        """Those through which most influence flows first; ``search``: a piece of the label, or of
        the token."""
        asked = {"kind": kind, "layer": layer, "position": position, "search": search}
        return listed(self._http, GraphNode, f"{_path(graph)}/nodes", limit, **asked)

    def node(self, graph: GraphReference, node: int) -> GraphNode:
        """A node by its number."""
        return self._http.call(GraphNode, "GET", f"{_path(graph)}/nodes/{segment(node)}")

    def edges(
        self,
        graph: GraphReference,
        node: int,
        *,
        end: Literal["in", "out"] = "in",
        limit: int | None = None,
    ) -> Iterator[GraphEdgeView]:
        """Edges into a node, or out of it, the largest first."""
        path = f"{_path(graph)}/nodes/{segment(node)}/edges"
        return listed(self._http, GraphEdgeView, path, limit, end=end)

    def drawing(
        self, graph: GraphReference, *, nodes: float | None = None, edges: float | None = None
    ) -> GraphDrawing:
        """Its nodes as columns and its strongest edges, pruned further by shares of influence; left
        out, as it is stored."""
        path = f"{_path(graph)}/drawing"
        return self._http.call(GraphDrawing, "GET", path, nodes=nodes, edges=edges)

    def common(
        self,
        graphs: Sequence[GraphReference] = (),
        *,
        run: uuid.UUID | str | None = None,
        against: Sequence[GraphReference] = (),
        align: Alignment | None = None,
        least: int | None = None,
        features: int | None = None,
    ) -> CommonView:
        """What several graphs of one host model and the same SAEs share, beside chance and beside
        graphs of other prompts (``against``); ``run``: all graphs of one, in place of ``graphs``.
        """
        return self._http.call(
            CommonView,
            "GET",
            "/graphs/common",
            graph=[_identity(each) for each in graphs],
            against=[_identity(each) for each in against],
            run=run,
            align=align,
            least=least,
            features=features,
        )

    def supernodes(
        self, graph: GraphReference, *, features: int | None = None
    ) -> ProposedSupernodes:
        """Groups of its features that do the same, proposed from edges and explanations, of those
        of the most influence; nothing is stored."""
        path = f"{_path(graph)}/supernodes"
        return self._http.call(ProposedSupernodes, "GET", path, features=features)

    def steer(
        self,
        graph: GraphReference,
        edits: Sequence[GraphEdit | Mapping[str, Any]],
        *,
        held: Held = "nothing",
        top: int = 10,
        features: int = 20,
    ) -> GraphSteered:
        """Changes features of its prompt, all at once: next tokens before and after, of each goal
        the change that the graph predicts beside the real one, and what else moves.

        An edit names a ``node``, or ``sae`` and ``latent``, with ``position``, ``mode`` (``ablate``
        without one) and ``strength``.  ``SpecError`` names every fault of one.

        Example: ``client.graphs.steer("texas", [{"node": 12}, {"node": 30, "mode": "scale",
        "strength": 2}])``
        """
        listed = several("edits", edits, "a list of edits")
        asked = {"edits": listed, "held": held, "top": top, "features": features}
        body = parse_part(GraphSteerRequest, asked)
        return self._http.call(GraphSteered, "POST", f"{_path(graph)}/steer", body, repeatable=True)

    def heads(
        self,
        graph: GraphReference,
        target: int,
        source: int | None = None,
        *,
        token: int | None = None,
        top: int = 20,
    ) -> GraphHeads:
        """Which heads carry the edge from one node to another, layer by layer; or, with ``token``,
        what heads bring to the target from the stream at that token.

        Example: ``client.graphs.heads("texas", 340, 12).heads[0]``
        """
        asked = {"target": target, "source": source, "token": token, "top": top}
        body = parse_part(GraphHeadsRequest, asked)
        return self._http.call(GraphHeads, "POST", f"{_path(graph)}/heads", body, repeatable=True)

    def score(
        self,
        graph: GraphReference,
        layer: int,
        head: int,
        *,
        token: int,
        source: int,
        listed: int = 20,
    ) -> GraphScore:
        """Why a head looks from one token at another, by pairs of the graph's sources.

        Example: ``client.graphs.score("texas", 4, 7, token=9, source=3).pairs[0]``
        """
        asked = {"layer": layer, "head": head, "token": token, "source": source, "listed": listed}
        body = parse_part(GraphScoreRequest, asked)
        return self._http.call(GraphScore, "POST", f"{_path(graph)}/score", body, repeatable=True)

    def save(
        self,
        graph: GraphReference,
        to: str | Path,
        *,
        form: Literal["attribution-graph", "npz"] = "attribution-graph",
    ) -> int:
        """Writes a file that circuit-tracer's and Neuronpedia's viewers read, or one of arrays that
        ``monosemy.graphs.store.read_graph`` does; its bytes."""
        return self._http.download(f"{_path(graph)}/file", Path(to), form=form)

    def upload(self, file: str | Path) -> GraphHeader:
        """Sends an attribution-graph JSON of circuit-tracer, Neuronpedia or ours, to be listed and
        drawn like one that was traced here."""
        return GraphHeader.model_validate(self._http.send("/graphs/upload", Path(file)))

    def delete(self, graph: GraphReference) -> None:
        """Its run stays."""
        self._http.delete(_path(graph))


def _identity(graph: GraphReference) -> uuid.UUID | str:
    return graph.id if isinstance(graph, GraphHeader | GraphView) else graph


def _path(graph: GraphReference) -> str:
    return f"/graphs/{segment(_identity(graph))}"
