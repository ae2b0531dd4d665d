"""A stored graph as columns to draw, pruned further by the shares of a slider.  No torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from monosemy.graphs.graph import Graph, NodeKind
from monosemy.graphs.influence import influence
from monosemy.graphs.listing import branch_name, node_labels
from monosemy.graphs.pruning import prune
from monosemy.graphs.whole_influence import WholeInfluence
from monosemy.specs.rest.graphs import GraphDrawing

MOST_EDGES = 20_000
"""Edges of a drawing."""


def draw(
    graph: Graph,
    whole: WholeInfluence,
    nodes: float = 1.0,
    edges: float = 1.0,
    labels: Mapping[int, str] | None = None,
    most_edges: int = MOST_EDGES,
) -> GraphDrawing:
    """``nodes`` and ``edges``: shares of the influence of the stored graph that are kept, as
    ``pruning.prune`` takes them; 1 and 1: the graph as it is stored.

    ``labels`` of features, by node of the stored graph.  ``ValueError`` for shares outside of
    (0, 1].
    """
    kept = np.arange(len(graph.nodes))
    shown, of_edges, share, chance = graph, int((~graph.bias_edges).sum()), 1.0, 1.0
    if nodes != 1 or edges != 1:
        pruned = prune(graph, nodes, edges)
        shown, kept, of_edges = pruned.graph, pruned.kept, pruned.of_edges
        share, chance = pruned.edge_share, pruned.edge_chance
    flow, rows = influence(shown), shown.rows
    called = node_labels(graph, labels)
    along_E = flow.shares_N[rows.target[rows.row_of_edge]] * flow.share_E
    flowing = np.flatnonzero(along_E > 0)
    order = flowing[np.argsort(-along_E[flowing], kind="stable")][:most_edges]
    mask = np.zeros(len(graph.nodes), bool)
    mask[kept] = True
    columns = shown.nodes
    is_feature = columns.kind == NodeKind.feature
    return GraphDrawing(
        tokens=list(graph.texts),
        layers=graph.layers,
        sites=list(graph.sites),
        node=kept.tolist(),
        kind=[NodeKind(kind).name for kind in columns.kind.tolist()],
        layer=columns.layer.tolist(),
        branch=[
            branch_name(graph, kind, branch)
            for kind, branch in zip(columns.kind.tolist(), columns.branch.tolist(), strict=True)
        ],
        position=columns.position.tolist(),
        coder=columns.coder.tolist(),
        latent=[
            number if feature else None
            for number, feature in zip(columns.number.tolist(), is_feature.tolist(), strict=True)
        ],
        label=[called[number] for number in kept.tolist()],
        value=columns.value.tolist(),
        influence=flow.shares_N.tolist(),
        source=kept[rows.source[order]].tolist(),
        target=kept[rows.target[rows.row_of_edge[order]]].tolist(),
        weight=rows.weight[order].tolist(),
        flow=along_E[order].tolist(),
        edges=int((~shown.bias_edges).sum()),
        of_edges=of_edges,
        edge_share=share,
        edge_chance=chance,
        kept=whole.kept(graph.nodes.kind, mask),
        replacement=flow.replacement,
        completeness=flow.completeness,
    )
