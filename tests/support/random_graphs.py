"""Graphs by hand and at random; no torch."""

from __future__ import annotations

import numpy as np

from monosemy.graphs.graph import Graph, NodeKind, Nodes, Rows

Edge = tuple[str, str, float]


def graph_of(
    kinds: dict[str, tuple[NodeKind, int]], edges: list[Edge], weights: dict[str, float]
) -> tuple[Graph, dict[str, int]]:
    """A graph of named nodes (kind, layer) with edges (source, target, weight) on one token, and
    the number of each node.  Values are the sums of edges."""
    names = sorted(kinds, key=lambda name: (kinds[name][0], kinds[name][1]))
    number = {name: place for place, name in enumerate(names)}
    count = len(names)
    layer = np.array([kinds[name][1] for name in names])
    nodes = Nodes(
        np.array([int(kinds[name][0]) for name in names]),
        layer,
        np.zeros(count, int),
        np.zeros(count, int),
        np.arange(count),
        np.ones(count),
    )
    targets = sorted({edge[1] for edge in edges}, key=lambda name: (-kinds[name][1], name))
    parts = [[edge for edge in edges if edge[1] == target] for target in targets]
    start = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    rows = Rows(
        np.array([number[target] for target in targets]),
        start,
        np.array([number[edge[0]] for part in parts for edge in part]),
        np.array([edge[2] for part in parts for edge in part], float),
        np.zeros(len(targets)),
        np.zeros(len(targets)),
        np.array([sum(edge[2] for edge in part) for part in parts]),
    )
    goals = tuple(number[name] for name in weights)
    layers = int(layer.max())
    given = np.array(list(weights.values()))
    return Graph((0,), ("a",), layers, nodes, rows, goals, tuple(weights), given), number


def random_graph(
    seed: int, layers: int = 6, each: int = 12, tokens: int = 5, causal: bool = False
) -> Graph:
    """Most features, errors and tokens feed a feature above them, where it is ``causal`` none of
    later tokens; two logits."""
    rng = np.random.default_rng(seed)
    kind, layer, place = [], [], []
    for number in range(layers * each):
        kind.append(NodeKind.feature)
        layer.append(number // each)
        place.append(number % tokens)
    for number in range(layers * tokens):
        kind.append(NodeKind.error)
        layer.append(number // tokens)
        place.append(number % tokens)
    for at in range(tokens):
        kind.append(NodeKind.token)
        layer.append(-1)
        place.append(at)
    kind += [NodeKind.bias, NodeKind.logit, NodeKind.logit]
    layer += [-1, layers, layers]
    place += [-1, tokens - 1, tokens - 1]
    count = len(kind)
    columns = [np.array(each, int) for each in (kind, layer, place)]
    number = np.where(columns[0] == NodeKind.token, columns[2], np.arange(count))
    number[columns[0] == NodeKind.bias] = 0
    number[np.isin(columns[0], (NodeKind.error, NodeKind.logit))] = -1
    nodes = Nodes(*columns, np.zeros(count, int), number, np.ones(count))
    targets = np.concatenate([[count - 2, count - 1], np.arange(layers * each)[::-1]])
    targets = targets[np.argsort(-nodes.layer[targets], kind="stable")]
    sources, weights, start = [], [], [0]
    for target in targets:
        below = nodes.layer < nodes.layer[target]
        below &= nodes.kind != NodeKind.logit
        if causal:
            below &= nodes.position <= nodes.position[target]
        at = np.flatnonzero(below)
        at = np.sort(rng.choice(at, max(1, int(len(at) * 0.6)), replace=False))
        sources.append(at)
        weights.append(rng.standard_normal(len(at)) * rng.exponential(1, len(at)))
        start.append(start[-1] + len(at))
    rest = rng.standard_normal(len(targets)) * 0.05
    made = np.array([each.sum() for each in weights]) + rest
    rows = Rows(
        targets,
        np.array(start),
        np.concatenate(sources),
        np.concatenate(weights),
        rest,
        np.abs(rest) * 1.5,
        made,
    )
    goals = (count - 2, count - 1)
    return Graph(
        tuple(range(tokens)),
        tuple("abcdefgh"[:tokens]),
        layers,
        nodes,
        rows,
        goals,
        ("x", "y"),
        np.array([0.6, 0.35]),
    )
