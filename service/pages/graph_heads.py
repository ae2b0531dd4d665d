"""The forms of a graph's node that ask for heads: which carry an edge, and why one looks there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query

from monosemy.figures import signed
from monosemy.graphs.graph import Graph, NodeKind
from monosemy.graphs.listing import branch_name
from monosemy.specs.rest.graphs import GraphEdgeView, GraphHeader

EdgeAsked = Annotated[str | None, Query(pattern=r"^\d{1,9}-\d{1,9}$")]
"""SOURCE-TARGET, numbers of nodes."""
ScoreAsked = Annotated[str | None, Query(pattern=r"^\d{1,4}(\.\d{1,4}){3}$")]
"""LAYER.HEAD.TOKEN.SOURCE"""


@dataclass(frozen=True)
class EdgeChoice:
    value: str
    """As ``EdgeAsked``."""
    says: str
    from_token: int | None
    to_token: int | None


@dataclass(frozen=True)
class HeadsForm:
    edges: list[EdgeChoice]
    edge: str | None
    """The one that is chosen."""
    score: Sequence[str]
    """Fields of a head's score; none where the address asks for none."""
    layers: int
    opened: bool
    data: dict[str, Any]
    """What the script is given."""


def heads_form(
    it: GraphHeader,
    graph: Graph,
    node: int,
    edges: Iterable[GraphEdgeView],
    *,
    edge: str | None,
    score: str | None,
) -> HeadsForm:
    """Of the edges of a node that are shown those that heads may carry, and ``edge``, whatever it
    is: the answer says what is wrong with it."""
    choices = {}
    for each in edges:
        if NodeKind(int(graph.nodes.kind[each.source])) == NodeKind.bias:
            continue
        value = f"{each.source}-{each.target}"
        far = "from" if each.target == node else "to"
        says = f"{signed(each.weight)} {far} {each.label[:60]}{_place(it, graph, each.other)}"
        choices[value] = EdgeChoice(
            value, says, _token(graph, each.source), _token(graph, each.target)
        )
    if edge is not None and edge not in choices:
        source, target = (int(each) for each in edge.split("-"))
        says = f"from node {source} to node {target}"
        choices[edge] = EdgeChoice(edge, says, _token(graph, source), _token(graph, target))
    return HeadsForm(
        edges=list(choices.values()),
        edge=edge,
        score=score.split(".") if score else [],
        layers=graph.layers,
        opened=edge is not None or score is not None,
        data={"id": str(it.id), "node": node, "saes": it.saes, "tokens": it.tokens},
    )


def _place(it: GraphHeader, graph: Graph, node: int) -> str:
    """Tells apart what is called the same."""
    kind, at = NodeKind(int(graph.nodes.kind[node])), _token(graph, node)
    layer = ""
    if kind in (NodeKind.feature, NodeKind.error):
        branch = branch_name(graph, kind.value, int(graph.nodes.branch[node]))
        layer = (
            f", {'attention of ' if branch == 'attention' else ''}layer {graph.nodes.layer[node]}"
        )
    return layer if at is None else f"{layer}, at {it.tokens[at][:30].strip()} {at}"


def _token(graph: Graph, node: int) -> int | None:
    """The token at which a node is; none of a bias, and of a node that there is not."""
    if node >= len(graph.nodes):
        return None
    position = int(graph.nodes.position[node])
    return position if 0 <= position < len(graph.ids) else None
