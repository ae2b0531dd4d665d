"""How alike features of a graph are by what feeds them and what they feed, beside shuffled graphs.
No torch.

A feature's *profile* at one end is its edges there as signed shares of the rows that they are in.
What is at the other end counts as the same at every token.  Two features are as alike as the
geometric mean of the cosines of both profiles, 0 where one is negative: features that share
a source alone, or a target alone, are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monosemy.graphs.graph import Floats, Graph, Ints, NodeKind
from monosemy.graphs.influence import Influence

_STRENGTHS = 10


@dataclass(frozen=True)
class EndProfiles:
    """Edges at one end of M features."""

    feature_E: Ints
    """Which feature, 0 to M - 1."""
    other_E: Ints
    """What is at the other end, 0 to C - 1."""
    share_E: Floats
    block_E: Ints
    """Edges that are shuffled among each other: those to one kind and layer, of like size."""
    node_C: Ints
    """One node of each other end, for its label."""
    features: int

    def table(self, other_E: Ints | None = None) -> Floats:
        """``[M, C]``; ``other_E``: other ends in place of the edges' own."""
        shape = self.features, len(self.node_C)
        table = np.zeros(shape)
        other = self.other_E if other_E is None else other_E
        np.add.at(table, (self.feature_E, other), self.share_E)
        return table

    def shuffled(self, rng: np.random.Generator) -> Floats:
        """``[M, C]``: every feature keeps its shares, and every other end the number of its edges
        of each size, but who has which is random."""
        order = np.lexsort((rng.random(len(self.block_E)), self.block_E))
        own = np.argsort(self.block_E, kind="stable")
        other = np.empty_like(self.other_E)
        other[own] = self.other_E[order]
        return self.table(other)


def end_profiles(graph: Graph, flow: Influence, chosen: Ints) -> tuple[EndProfiles, EndProfiles]:
    """(what feeds the ``chosen`` nodes, what they feed); edges from biases are left out."""
    rows, nodes = graph.rows, graph.nodes
    place_N = np.full(len(nodes), -1)
    place_N[chosen] = np.arange(len(chosen))
    target_E = rows.target[rows.row_of_edge]
    signed_E = np.where(graph.bias_edges, 0.0, flow.share_E * np.sign(rows.weight))
    ends = []
    for own_E, other_E in ((target_E, rows.source), (rows.source, target_E)):
        at = np.flatnonzero((place_N[own_E] >= 0) & (signed_E != 0))
        other = other_E[at]
        part = (nodes.kind, nodes.layer, nodes.coder, nodes.number, nodes.branch)
        names = np.stack([column[other] for column in part], axis=1).reshape(len(at), len(part))
        _, first, number = np.unique(names, axis=0, return_index=True, return_inverse=True)
        _, block = np.unique(names[:, :2], axis=0, return_inverse=True)
        share = signed_E[at]
        ends.append(
            EndProfiles(
                place_N[own_E[at]],
                number.ravel(),
                share,
                block.ravel() * _STRENGTHS + _strengths(np.abs(share), block.ravel()),
                other[first],
                len(chosen),
            )
        )
    return ends[0], ends[1]


def _strengths(size_E: Floats, block_E: Ints) -> Ints:
    """``[E]``: tenth of its block that an edge belongs to by its size."""
    order = np.lexsort((size_E, block_E))
    counts = np.bincount(block_E)
    starts = np.concatenate([[0], np.cumsum(counts)])[:-1]
    rank = np.empty(len(size_E), np.int64)
    rank[order] = np.arange(len(size_E)) - starts[block_E[order]]
    return np.asarray(rank * _STRENGTHS // np.maximum(counts[block_E], 1))


def alike(fed: Floats, feeds: Floats) -> Floats:
    """``[M, M]``, 0 to 1."""
    return np.sqrt(cosines(fed) * cosines(feeds))


def cosines(rows: npt.NDArray[np.floating]) -> Floats:
    """``[M, M]``: of each two rows, at least 0; 0 with a row of zeros."""
    rows = np.asarray(rows, np.float64)
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
    return np.clip(unit @ unit.T, 0.0, 1.0)


def is_feature(graph: Graph) -> npt.NDArray[np.bool_]:
    """``[N]``."""
    return np.asarray(graph.nodes.kind == NodeKind.feature)
