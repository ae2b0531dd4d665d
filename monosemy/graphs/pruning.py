"""Smaller graphs that never look better than the whole.  No torch.

A feature that goes leaves its edges to the error of its layer and token, with their mass: what it
explained is then unexplained.  Edges that go are left out of their rows, and count as missed.  So
neither score can rise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from monosemy.graphs.graph import Branch, Graph, Ints, NodeKind, Rows
from monosemy.graphs.influence import influence

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pruned:
    """A pruned graph, and which nodes of the whole it has."""

    graph: Graph
    kept: Ints
    """By node of the pruned graph, its number in the whole."""
    node_share: float
    """Of what flows through features and errors of the whole, the share through those kept."""
    edge_share: float
    """Of what flows along edges between kept nodes, the share of those kept."""
    of_edges: int
    """Edges between kept nodes before any of them went, those from biases left out."""
    edge_chance: float
    """What as many random ones of these edges as were kept would hold of the flow on average: their
    share of the count."""


def prune(
    graph: Graph,
    nodes: float = 0.8,
    edges: float = 0.98,
    most_nodes: int | None = None,
    pinned: Ints | None = None,
) -> Pruned:
    """Keeps the features and errors through which a share ``nodes`` of the influence flows, then
    the edges along which a share ``edges`` does, then drops features that have no edge in or none
    out.

    ``pinned`` features are always kept.  ``ValueError`` for shares outside of (0, 1].
    """
    for name, share in (("nodes", nodes), ("edges", edges)):
        if not 0 < share <= 1:
            raise ValueError(f"{name} is a share above 0, at most 1")
    through_N = influence(graph).through_N
    inner = np.isin(graph.nodes.kind, (NodeKind.feature, NodeKind.error))
    kept_N = ~inner | _largest(np.where(inner, through_N, 0.0), nodes, most_nodes)
    kept_N[np.asarray(graph.goals, np.int64)] = True
    if pinned is not None:
        kept_N[pinned] = True
    node_share = float(through_N[inner & kept_N].sum() / max(through_N[inner].sum(), 1e-300))
    merged = _without_features(graph, kept_N)
    kept_N |= _errors_that_count(merged, through_N, kept_N, inner)
    merged = _without_sources(merged, kept_N)
    thinned, edge_share = _thinned(merged, edges)
    of_edges = int((~merged.bias_edges).sum())
    edge_chance = int((~thinned.bias_edges).sum()) / max(of_edges, 1)
    while True:
        idle = _idle_features(thinned, kept_N, pinned)
        if not idle.any():
            break
        kept_N &= ~idle
        thinned = _without_features(thinned, kept_N)
        kept_N |= _received(thinned, kept_N)
    kept = np.flatnonzero(kept_N)
    about = {
        "pruning": {
            "nodes": nodes,
            "edges": edges,
            "most_nodes": most_nodes,
            "kept_nodes": len(kept),
            "of_nodes": len(graph.nodes),
            "kept_edges": len(thinned.rows.source),
            "of_edges": len(graph.rows.source),
            "node_share": node_share,
            "edge_share": edge_share,
        }
    }
    graph = _renumbered(thinned, kept, about)
    return Pruned(graph, kept, node_share, edge_share, of_edges, edge_chance)


def _largest(values: npt.NDArray[np.float64], share: float, most: int | None) -> Mask:
    """The fewest largest that hold a share of the sum; ``most`` at most."""
    if not len(values):
        return np.zeros(0, bool)
    order = np.argsort(-values, kind="stable")
    running = np.cumsum(values[order])
    enough = int(np.searchsorted(running, share * running[-1] * (1 - 1e-12))) + 1
    mask = np.zeros(len(values), bool)
    mask[order[: min(enough, len(values) if most is None else most)]] = True
    return mask & (values > 0)


def _without_features(graph: Graph, kept_N: Mask) -> Graph:
    """Rows of features that go are dropped, and their edges into others become those of the error
    of their branch, layer and token, by sign."""
    nodes, rows = graph.nodes, graph.rows
    gone = (nodes.kind == NodeKind.feature) & ~kept_N
    stays_R = ~gone[rows.target]
    errors = np.full((len(Branch), graph.layers, len(graph.ids)), -1)
    at = np.flatnonzero(nodes.kind == NodeKind.error)
    errors[nodes.branch[at], nodes.layer[at], nodes.position[at]] = at
    source = rows.source.copy()
    moved = np.flatnonzero(gone[source])
    left = source[moved]
    source[moved] = errors[nodes.branch[left], nodes.layer[left], nodes.position[left]]
    return graph.with_rows(_merged(rows, source, stays_R))


def _merged(rows: Rows, source: Ints, stays_R: Mask) -> Rows:
    """The rows that stay, from other sources: edges of one source and sign are added up, those
    whose source is -1 are left out."""
    stays_E = stays_R[rows.row_of_edge]
    lost = stays_E & (source < 0)
    rest = rows.rest + rows.sums(np.where(lost, rows.weight, 0.0))
    rest_mass = rows.rest_mass + rows.sums(np.where(lost, np.abs(rows.weight), 0.0))
    keep = stays_E & (source >= 0)
    number = np.cumsum(stays_R) - 1
    row, column = number[rows.row_of_edge[keep]], source[keep]
    weight, negative = rows.weight[keep], rows.weight[keep] < 0
    order = np.lexsort((negative, column, row))
    row, column, weight, negative = row[order], column[order], weight[order], negative[order]
    fresh = np.ones(len(row), bool)
    same = (row[1:] == row[:-1]) & (column[1:] == column[:-1]) & (negative[1:] == negative[:-1])
    fresh[1:] = ~same
    weight = np.add.reduceat(weight, np.flatnonzero(fresh)) if len(weight) else weight
    row, column = row[fresh], column[fresh]
    start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=int(stays_R.sum())))])
    return Rows(
        rows.target[stays_R],
        start,
        column,
        weight,
        rest[stays_R],
        rest_mass[stays_R],
        rows.value[stays_R],
    )


def _errors_that_count(
    graph: Graph, through_N: npt.NDArray[np.float64], kept_N: Mask, inner_N: Mask
) -> Mask:
    """Errors that are as large as the smallest kept node, with what was merged into them."""
    smallest = through_N[inner_N & kept_N].min() if (inner_N & kept_N).any() else 0.0
    errors = graph.nodes.kind == NodeKind.error
    return np.asarray(errors & (influence(graph).through_N >= smallest))


def _without_sources(graph: Graph, kept_N: Mask) -> Graph:
    """Edges from nodes that go are left out of their rows."""
    source = np.where(kept_N[graph.rows.source], graph.rows.source, -1)
    everything = np.ones(len(graph.rows), bool)
    return graph.with_rows(_merged(graph.rows, source, everything))


def _thinned(graph: Graph, share: float) -> tuple[Graph, float]:
    """The edges along which most flows; biases stay, for sums to be told."""
    flow = influence(graph)
    rows = graph.rows
    along_E = flow.through_N[rows.target[rows.row_of_edge]] * flow.share_E
    kept_E = _largest(along_E, share, None) | graph.bias_edges
    source = np.where(kept_E, rows.source, -1)
    everything = np.ones(len(rows), bool)
    reached = float(along_E[kept_E].sum() / max(along_E.sum(), 1e-300))
    return graph.with_rows(_merged(rows, source, everything)), reached


def _idle_features(graph: Graph, kept_N: Mask, pinned: Ints | None) -> Mask:
    """Kept features with no edge out, or no edge in although their inputs were traced."""
    nodes, rows = graph.nodes, graph.rows
    feature = (nodes.kind == NodeKind.feature) & kept_N
    feeds = np.zeros(len(nodes), bool)
    feeds[rows.source] = True
    fed = np.ones(len(nodes), bool)
    fed[rows.target] = rows.sums((~graph.bias_edges).astype(float)) > 0
    idle = feature & ~(feeds & fed)
    if pinned is not None:
        idle[pinned] = False
    return np.asarray(idle)


def _received(graph: Graph, kept_N: Mask) -> Mask:
    """Errors that hold edges of features that went late."""
    received = np.zeros(len(graph.nodes), bool)
    received[graph.rows.source] = True
    return np.asarray(received & (graph.nodes.kind == NodeKind.error) & ~kept_N)


def _renumbered(graph: Graph, kept: Ints, about: Mapping[str, Any]) -> Graph:
    number = np.full(len(graph.nodes), -1)
    number[kept] = np.arange(len(kept))
    rows = graph.rows
    new = Rows(
        number[rows.target],
        rows.start,
        number[rows.source],
        rows.weight,
        rows.rest,
        rows.rest_mass,
        rows.value,
    )
    return Graph(
        ids=graph.ids,
        texts=graph.texts,
        layers=graph.layers,
        nodes=graph.nodes.at(kept),
        rows=new,
        goals=tuple(int(number[goal]) for goal in graph.goals),
        goal_labels=graph.goal_labels,
        goal_weights=graph.goal_weights,
        about={**graph.about, **about},
        level_N=None if graph.level_N is None else graph.level_N[kept],
    )
