"""What is said of a graph: its scores, how far it was traced, how well it adds up.  No torch."""

from __future__ import annotations

import numpy as np

from monosemy.graphs.graph import Graph, NodeKind
from monosemy.graphs.influence import influence
from monosemy.graphs.store import kept_mass
from monosemy.specs.graphs import (
    GraphCheck,
    GraphForecast,
    GraphGoalView,
    GraphScores,
    GraphSummary,
)


def summary_of(
    whole: Graph,
    pruned: Graph,
    forecast: GraphForecast | None = None,
    check: GraphCheck | None = None,
) -> GraphSummary:
    """Of a graph and what pruning left of it; of a graph from a file both are that graph."""
    flow, nodes = influence(whole), whole.nodes
    row_of_goal = whole.row_of_node[np.asarray(whole.goals, np.int64)]
    values = [float(whole.rows.value[row]) if row >= 0 else 0.0 for row in row_of_goal]
    weights = whole.goal_weights.tolist()
    return GraphSummary(
        tokens=list(whole.texts),
        goals=[
            GraphGoalView(label=label, weight=weight, value=value)
            for label, weight, value in zip(whole.goal_labels, weights, values, strict=True)
        ],
        forecast=forecast,
        traced=int((nodes.kind[whole.rows.target] == NodeKind.feature).sum()),
        untraced=flow.by_kind["untraced"] / max(flow.total, 1e-300),
        rounding=float(whole.rounding.max(initial=0.0)),
        least_row_mass=float(kept_mass(whole).min(initial=1.0)),
        whole=scores_of(whole),
        pruned=scores_of(pruned),
        nodes=len(pruned.nodes),
        edges=len(pruned.rows.source),
        check=check,
    )


def scores_of(graph: Graph) -> GraphScores:
    """Replacement and completeness, and where the influence ends."""
    flow = influence(graph)
    return GraphScores(
        replacement=flow.replacement,
        completeness=flow.completeness,
        completeness_ct=flow.completeness_ct,
        ends=flow.by_kind,
    )
