"""Nodes and edges of a graph as lists, page by page.  No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np

from monosemy.graphs.graph import Branch, Floats, Graph, NodeKind
from monosemy.graphs.influence import Influence, influence
from monosemy.graphs.names import BIASES
from monosemy.specs.graphs import GraphEdge, GraphNode

End = Literal["in", "out"]
_NAMES = {kind.value: kind.name for kind in NodeKind}


def node_labels(graph: Graph, labels: Mapping[int, str] | None = None) -> list[str]:
    """What each node is called: a feature by ``labels`` (by node), else by layer and latent, with
    the branch where that is attention; an error by layer (or site) and token."""
    nodes, given = graph.nodes, labels or {}
    goals = dict(zip(graph.goals, graph.goal_labels, strict=True))
    columns = (nodes.kind, nodes.layer, nodes.position, nodes.number, nodes.branch)
    called = []
    # Lists and plain numbers: those of arrays and enums take six times as long.
    feature, logit, bias = NodeKind.feature.value, NodeKind.logit.value, NodeKind.bias.value
    error = NodeKind.error.value
    for number, (kind, layer, place, own, branch) in enumerate(
        zip(*(each.tolist() for each in columns), strict=True)
    ):
        if number in given:
            called.append(given[number])
        elif kind == feature:
            called.append(f"{layer}.attn/{own}" if branch else f"{layer}/{own}")
        elif kind == logit:
            called.append(goals[number])
        elif kind == bias:
            called.append(f"{BIASES[own]} bias" if 0 <= own < len(BIASES) else "bias")
        else:
            text = graph.texts[place] if 0 <= place < len(graph.texts) else ""
            what = error_label(graph, layer, branch) if kind == error else _NAMES[kind]
            called.append(f"{what} {text}".strip())
    return called


def error_label(graph: Graph, layer: int, branch: int) -> str:
    """What the error of a layer, or of a site, is called at any token."""
    if graph.sites:
        return f"{graph.sites[layer]} error"
    return f"layer {layer} {'attention error' if branch else 'error'}"


def site_labels(graph: Graph, saes: Sequence[str]) -> dict[int, str]:
    """Of a feature circuit, whose layers are sites: its features by SAE (in the order of
    ``coder``) and latent, by node; else none."""
    if not graph.sites:
        return {}
    nodes = graph.nodes
    columns = zip(nodes.kind.tolist(), nodes.coder.tolist(), nodes.number.tolist(), strict=True)
    return {
        node: f"{saes[coder]}/{latent}"
        for node, (kind, coder, latent) in enumerate(columns)
        if kind == NodeKind.feature and 0 <= coder < len(saes)
    }


def list_nodes(
    graph: Graph,
    labels: Mapping[int, str] | None = None,
    kinds: Collection[NodeKind] | None = None,
    layer: int | None = None,
    position: int | None = None,
    search: str = "",
    first: int = 0,
    count: int | None = None,
    flow: Influence | None = None,
) -> tuple[int, list[GraphNode]]:
    """(how many nodes are meant, a page of them, those of the most influence first).

    ``search``: a piece of the label or of the token at the node's place, in either case; ``flow``:
    the graph's influence, where it is known.
    """
    nodes, shares = graph.nodes, (flow or influence(graph)).shares_N
    called, positive_negative = node_labels(graph, labels), graph.signed_masses()
    meant = np.ones(len(nodes), bool)
    if kinds is not None:
        meant &= np.isin(nodes.kind, [int(kind) for kind in kinds])
    if layer is not None:
        meant &= nodes.layer == layer
    if position is not None:
        meant &= nodes.position == position
    if search:
        wanted = search.casefold()
        texts = [text.casefold() for text in graph.texts]
        meant &= np.array(
            [
                wanted in called[number].casefold()
                or (0 <= place < len(texts) and wanted in texts[place])
                for number, place in enumerate(nodes.position.tolist())
            ],
            bool,
        )
    at = np.flatnonzero(meant)
    order = at[np.argsort(-shares[at], kind="stable")]
    page = order[first : None if count is None else first + count]
    return len(order), [
        _listed(graph, int(number), called[number], shares, positive_negative) for number in page
    ]


def one_node(
    graph: Graph, node: int, label: str | None = None, flow: Influence | None = None
) -> GraphNode:
    """As listings have it; ``label``: what it is called, where that is known.  ``IndexError`` for a
    node that is not there."""
    _check(graph, node)
    called = node_labels(graph, {} if label is None else {node: label})[node]
    shares = (flow or influence(graph)).shares_N
    return _listed(graph, node, called, shares, graph.signed_masses())


def _listed(
    graph: Graph, number: int, label: str, shares: Floats, masses: tuple[Floats, Floats]
) -> GraphNode:
    nodes = graph.nodes
    return GraphNode(
        node=number,
        kind=NodeKind(nodes.kind[number]).name,
        layer=int(nodes.layer[number]),
        branch=branch_name(graph, int(nodes.kind[number]), int(nodes.branch[number])),
        position=int(nodes.position[number]),
        coder=int(nodes.coder[number]),
        latent=int(nodes.number[number]) if nodes.kind[number] == NodeKind.feature else None,
        label=label,
        value=float(nodes.value[number]),
        influence=float(shares[number]),
        positive=float(masses[0][number]),
        negative=float(masses[1][number]),
    )


def branch_name(graph: Graph, kind: int, branch: int) -> Literal["attention", "mlp"] | None:
    """Of a feature and an error; None of the others, and in a feature circuit, whose layers are
    sites of any kind."""
    if graph.sites or kind not in (NodeKind.feature.value, NodeKind.error.value):
        return None
    return "attention" if branch == Branch.attention.value else "mlp"


def _check(graph: Graph, node: int) -> None:
    if not 0 <= node < len(graph.nodes):
        raise IndexError(f"the graph has {len(graph.nodes)} nodes, none is number {node}")


def list_edges(
    graph: Graph, node: int, end: End = "in", first: int = 0, count: int | None = None
) -> tuple[int, list[GraphEdge]]:
    """(how many edges a node has, a page of them, the largest first): into it, or out of it.

    ``IndexError`` for a node that is not there.
    """
    _check(graph, node)
    others, weights = graph.edges_into(node) if end == "in" else graph.edges_from(node)
    page = slice(first, None if count is None else first + count)
    pairs: Sequence[tuple[int, float]] = list(
        zip(others[page].tolist(), weights[page].tolist(), strict=True)
    )
    return len(others), [
        GraphEdge(
            source=other if end == "in" else node,
            target=node if end == "in" else other,
            weight=weight,
        )
        for other, weight in pairs
    ]
