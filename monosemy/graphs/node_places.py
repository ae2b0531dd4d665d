"""Nodes of a stored graph by what they are, so that they are found in another reading of its
prompt, and what is told of that reading gets their numbers.  No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from monosemy.errors import SpecError
from monosemy.graphs.graph import Branch, Graph, NodeKind
from monosemy.graphs.listing import branch_name
from monosemy.graphs.names import BIASES
from monosemy.specs.inference.graph_heads import (
    GraphHeadsRequest,
    GraphPlace,
    ScoredSource,
)

_Key = tuple[str, str | None, int, int, int, int]


def asked_places(graph: Graph, asked: GraphHeadsRequest) -> dict[str, GraphPlace]:
    """``target`` and, where one is named, ``source``.  ``SpecError`` for a node that there is not,
    or that is of another kind, and where no edge can lead from the one to the other."""
    faults: list[tuple[str, str]] = []
    places = {}
    wanted: dict[str, tuple[int, tuple[str, ...], str]] = {
        "target": (asked.target, ("feature", "logit"), "a feature or a goal")
    }
    if asked.source is not None:
        sources = ("feature", "error", "token", "position")
        wanted["source"] = (asked.source, sources, "a feature, an error, a token or a position")
    for name, (node, kinds, words) in wanted.items():
        if node >= len(graph.nodes):
            faults.append((name, f"the graph has nodes 0 to {len(graph.nodes) - 1}"))
        elif (kind := NodeKind(graph.nodes.kind[node]).name) not in kinds:
            faults.append((name, f"node {node} is of kind {kind}, not {words}"))
        else:
            places[name] = place_of(graph, node)
    if asked.token is not None and asked.token >= len(graph.ids):
        faults.append(("token", f"the prompt has tokens 0 to {len(graph.ids) - 1}"))
    if "target" in places:
        behind = _no_way(graph, asked.source if "source" in places else None, asked.target)
        faults += [("source", behind)] if behind else []
        last = places["target"].position
        if asked.token is not None and last < asked.token < len(graph.ids):
            faults.append(("token", f"{_it(graph, asked.target)} and reads tokens 0 to {last}"))
    if faults:
        raise SpecError(faults)
    return places


def _no_way(graph: Graph, source: int | None, target: int) -> str | None:
    """Why no edge leads from one node to another, whatever the prompt; None where one may."""
    if source is None:
        return None
    if source == target:
        return f"no edge leads from node {source} to itself"
    positions = graph.nodes.position
    if positions[source] > positions[target]:
        why = "an edge leads from a token to itself or a later one"
    elif _height(graph, source) >= _height(graph, target):
        why = "an edge leads up, to a later layer, or from a layer's attention to its MLP"
    else:
        return None
    return f"{_it(graph, source)}, {_it(graph, target)}: {why}"


def _height(graph: Graph, node: int) -> float:
    """Features and errors of attention stand below those of the same layer's MLP."""
    nodes = graph.nodes
    kind = NodeKind(nodes.kind[node])
    if kind == NodeKind.logit:
        return math.inf
    if kind not in (NodeKind.feature, NodeKind.error):
        return -1
    return int(nodes.layer[node]) + (0 if nodes.branch[node] == Branch.attention else 0.5)


def _it(graph: Graph, node: int) -> str:
    nodes = graph.nodes
    inner = nodes.kind[node] in (NodeKind.feature, NodeKind.error)
    layer = f"in layer {int(nodes.layer[node])} " if inner else ""
    return f"node {node} is {layer}at token {int(nodes.position[node])}"


def place_of(graph: Graph, node: int) -> GraphPlace:
    """Of a node that is no bias."""
    nodes = graph.nodes
    kind = NodeKind(nodes.kind[node])
    inner = kind in (NodeKind.feature, NodeKind.error)
    feature = kind == NodeKind.feature
    return GraphPlace(
        kind=kind.name,  # type: ignore[arg-type]
        branch=branch_name(graph, int(nodes.kind[node]), int(nodes.branch[node])) or "mlp",
        layer=int(nodes.layer[node]) if inner else 0,
        position=int(nodes.position[node]),
        coder=int(nodes.coder[node]) if feature else 0,
        latent=int(nodes.number[node]) if feature else None,
        goal=graph.goals.index(node) if kind == NodeKind.logit else None,
    )


def number_sources(sources: Iterable[ScoredSource], graph: Graph) -> None:
    """Gives them the numbers of their nodes, as far as the graph has them."""
    numbers = dict(_keys(graph))
    for each in sources:
        each.node = numbers.get(_key(each))


def _key(source: ScoredSource) -> _Key:
    bias = -1 if source.bias is None else BIASES.index(source.bias)
    own = [source.layer, source.position, source.coder, source.latent]
    layer, position, coder, latent = (-1 if each is None else each for each in own)
    return source.kind, source.branch, layer, position, coder, max(bias, latent)


def _keys(graph: Graph) -> Iterator[tuple[_Key, int]]:
    nodes = graph.nodes
    columns = (nodes.kind, nodes.branch, nodes.layer, nodes.position, nodes.coder, nodes.number)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for node, (kind, branch, layer, position, coder, number) in enumerate(rows):
        name = NodeKind(kind).name
        own = number if name in ("feature", "bias") else -1
        yield (name, branch_name(graph, kind, branch), layer, position, coder, own), node
