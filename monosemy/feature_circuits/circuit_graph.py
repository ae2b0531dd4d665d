"""A feature circuit as a graph, as those of prompts are stored and drawn.

A layer of the graph is a site, in the order in which the host computes them; what each is called
stands under ``about["sites"]``.  Where positions are summed there is one column.  Of a feature and
an error the value is its effect; the edges into a feature, and what its row left out, add up to it.
Errors and the prompt's tokens have no inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monosemy.feature_circuits.edges import Edges
from monosemy.feature_circuits.nodes import Features, Floats, SiteNodes
from monosemy.feature_circuits.pairs import Pair
from monosemy.feature_circuits.readings import SiteReading
from monosemy.graphs.graph import Graph, NodeKind, Nodes, Rows
from monosemy.models.host import HostModel

ALL_TOKENS = "all tokens"
"""The column of circuits whose positions are summed."""


@dataclass(frozen=True)
class CircuitGraph:
    """A graph, and what of the edges it holds."""

    graph: Graph
    edge_share: float
    """Of the absolute values of all edges between its nodes, the share of those that are kept."""
    unexplained: float
    """Of the values of nodes with inputs, by absolute value, what their inputs do not add up to."""


def column_texts(host: HostModel, pairs: Sequence[Pair], aligned: bool) -> tuple[str, ...]:
    """What columns are called: a token, if all prompts have it there, else that of the first with
    dots."""
    if not aligned:
        return (ALL_TOKENS,)
    texts = []
    for ids in zip(*(pair.clean for pair in pairs), strict=True):
        text = host.tokenizer.decode([ids[0]])
        texts.append(text if len(set(ids)) == 1 else f"{text}…")
    return tuple(texts)


def circuit_graph(
    sites: Sequence[SiteReading],
    coders: Sequence[int],
    nodes: Sequence[SiteNodes],
    features: Features,
    edges: Edges,
    texts: tuple[str, ...],
    metric: tuple[str, float],
    most_edges: int,
) -> CircuitGraph:
    """``coders``: by site the place of its SAE, -1 of the prompt's tokens; ``metric``: what is
    explained, and the mean difference of it between clean and patch."""
    tokens = [number for number, each in enumerate(sites) if each.site.coder is None]
    level = np.arange(len(sites)) - len(tokens)  # tokens stand first, at -1
    table = _Table()
    for at in range(len(features)):
        site = features.site[at]
        table.add(
            NodeKind.feature,
            level[site],
            features.column[at],
            coders[site],
            features.latent[at],
            features.effect[at],
        )
    for number, own in enumerate(nodes):
        kind = NodeKind.token if number in tokens else NodeKind.error
        for column, effect in enumerate(own.error_C.tolist()):
            table.add(kind, level[number], column, -1, -1, effect)
    goal, layers = len(table.rows), len(sites) - len(tokens)
    table.add(NodeKind.logit, layers, len(texts) - 1, -1, -1, metric[1])
    columns = table.nodes()
    value_R = np.array([*features.effect, metric[1]])
    rows = _Rows(edges, value_R, columns, goal, most_edges)
    graph = Graph(
        ids=(-1,) * len(texts),
        texts=texts,
        layers=layers,
        nodes=columns,
        rows=rows.made,
        goals=(goal,),
        goal_labels=(metric[0],),
        goal_weights=np.ones(1),
        about={"sites": [each.site.site for each in sites if each.site.coder is not None]},
    )
    missed = float(np.abs(value_R - edges.sums()).sum())
    return CircuitGraph(graph, rows.share, missed / max(float(np.abs(value_R).sum()), 1e-30))


class _Table:
    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, int, int, float]] = []

    def add(
        self, kind: NodeKind, layer: int, column: int, coder: int, number: int, value: float
    ) -> None:
        self.rows.append((int(kind), int(layer), column, coder, number, float(value)))

    def nodes(self) -> Nodes:
        *whole, value = zip(*self.rows, strict=True)
        kind, layer, position, coder, number = (np.array(each, np.int64) for each in whole)
        return Nodes(kind, layer, position, coder, number, np.array(value, np.float64))


class _Rows:
    """The largest edges as rows, the metric's first, then those of later sites."""

    def __init__(
        self, edges: Edges, value_R: Floats, nodes: Nodes, goal: int, most_edges: int
    ) -> None:
        count = len(value_R)
        source_RN = np.concatenate([edges.feature_RK, edges.error_RSC.reshape(count, -1)], 1)
        size_RN = np.abs(source_RN)
        kept = np.zeros(source_RN.size, bool)
        order = np.argsort(-size_RN.ravel(), kind="stable")[:most_edges]
        kept[order] = size_RN.ravel()[order] > 0
        kept_RN = kept.reshape(source_RN.shape)
        self.share = float(size_RN[kept_RN].sum() / max(size_RN.sum(), 1e-30))
        target = np.array([*range(count - 1), goal])
        up = np.argsort(-nodes.layer[target], kind="stable")
        picked = [np.flatnonzero(kept_RN[row]) for row in up]
        weights = [source_RN[row, own] for row, own in zip(up, picked, strict=True)]
        missed_R = value_R - edges.sums()
        rest_R = value_R - np.where(kept_RN, source_RN, 0.0).sum(1)
        mass_R = (
            np.where(kept_RN, 0.0, size_RN).sum(1)
            + np.abs(edges.left_out_RS).sum(1)
            + np.abs(missed_R)
        )
        self.made = Rows(
            target=target[up],
            start=np.concatenate([[0], np.cumsum([len(own) for own in picked])]).astype(np.int64),
            source=np.concatenate(picked).astype(np.int64),
            weight=np.concatenate(weights),
            rest=rest_R[up],
            rest_mass=mass_R[up],
            value=value_R[up],
        )
