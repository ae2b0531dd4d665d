"""Groups of nodes that leave a graph without cycles, and the edges between groups.  No torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from monosemy.graphs.graph import Floats, Graph, Ints, NodeKind


class Paths:
    """Which features lead to which, while groups are put together.

    Two groups may become one if no path leaves the one and comes to the other through a third: such
    a path would leave the new group and come back, and what the group adds to itself by it would be
    in no edge.
    """

    def __init__(self, graph: Graph) -> None:
        nodes, rows = graph.nodes, graph.rows
        features = np.flatnonzero(nodes.kind == NodeKind.feature)
        self.place_N = np.full(len(nodes), -1)
        self.place_N[features] = np.arange(len(features))
        self._leads_FF = np.zeros((len(features), len(features)), bool)
        source = self.place_N[rows.source]
        target = self.place_N[rows.target[rows.row_of_edge]]
        inner = np.flatnonzero((source >= 0) & (target >= 0))
        order = inner[np.argsort(source[inner], kind="stable")]
        start = np.searchsorted(source[order], np.arange(len(features) + 1))
        by_level = np.argsort(-graph.level_of_node[features], kind="stable")
        for feature in by_level.tolist():
            direct = target[order[start[feature] : start[feature + 1]]]
            if len(direct):
                self._leads_FF[feature] = self._leads_FF[direct].any(axis=0)
                self._leads_FF[feature, direct] = True

    def may_join(self, a: int, b: int) -> bool:
        """Of two groups, by the places of their first members (``place_N``)."""
        leads = self._leads_FF
        through = (leads[a] & leads[:, b]) | (leads[b] & leads[:, a])
        through[[a, b]] = False
        return not through.any()

    def join(self, a: int, b: int) -> None:
        """``b`` becomes part of ``a``; only where they may be joined."""
        leads = self._leads_FF
        onwards, into = leads[a] | leads[b], leads[:, a] | leads[:, b]
        onwards[[a, b]] = into[[a, b]] = False
        leads[into] |= onwards
        leads[into, a] = True
        leads[a] = onwards
        leads[b] = False
        leads[:, b] = False
        leads[a, a] = False


def group_edges(
    graph: Graph, groups: Sequence[Sequence[int]], through_N: Floats
) -> npt.NDArray[np.float64]:
    """``[S, T]``: what each group adds to each: edges summed over the sources, and averaged over
    the targets weighted by what flows through them (``through_N``); 0 within a group."""
    group_N = np.full(len(graph.nodes), -1)
    for number, members in enumerate(groups):
        group_N[list(members)] = number
    totals = np.array([through_N[list(members)].sum() for members in groups])
    rows = graph.rows
    target_E = rows.target[rows.row_of_edge]
    source, target = group_N[rows.source], group_N[target_E]
    at: Ints = np.flatnonzero((source >= 0) & (target >= 0) & (source != target))
    part = through_N[target_E[at]] / np.maximum(totals[target[at]], 1e-300)
    weights = np.zeros((len(groups), len(groups)))
    np.add.at(weights, (source[at], target[at]), rows.weight[at] * part)
    return weights
