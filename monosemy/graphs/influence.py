"""Influence: which share of the goals goes through each node.  No torch.

A row's edges, by absolute value and without biases, are divided by their sum, what was left out of
the row included.  The weights of the goals then flow down once, from the top layer to the tokens:

    through[source] += through[target] * share[target, source]

What flows is conserved: tokens, positions, errors, features whose inputs were not traced, and what
rows left out add up to the weights of the goals.  Biases can be counted as sources as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from monosemy.graphs.graph import Floats, Graph, NodeKind


@dataclass(frozen=True)
class Influence:
    """Of every node, in the unit of the goals' weights."""

    graph: Graph
    through_N: Floats
    """What flows through a node; goals hold their weight."""
    share_E: Floats
    """Of its row, by edge."""
    rest_share_R: Floats
    """Of a row, what was left out."""
    into_rest_R: Floats
    """What flows into what rows left out."""

    @cached_property
    def shares_N(self) -> Floats:
        """Of the goals' weight, the share that flows through a node, as doors show it."""
        return self.through_N / max(self.total, 1e-300)

    @cached_property
    def by_kind(self) -> dict[str, float]:
        """Where everything ends: ``token``, ``position``, ``error``, ``bias``, ``untraced``
        features and the ``rest`` of rows.  They add up to ``total``."""
        nodes = self.graph.nodes
        ends = {
            kind.name: float(self.through_N[nodes.kind == kind].sum())
            for kind in (NodeKind.token, NodeKind.position, NodeKind.error, NodeKind.bias)
        }
        untraced = (nodes.kind == NodeKind.feature) & (self.graph.row_of_node < 0)
        return {
            **ends,
            "untraced": float(self.through_N[untraced].sum()),
            "rest": float(self.into_rest_R.sum()),
        }

    @cached_property
    def total(self) -> float:
        return float(self.graph.goal_weights.sum())

    @cached_property
    def replacement(self) -> float:
        """Replacement score: the share that reaches the prompt (tokens and positions) of what
        reaches it, errors, features not traced or what rows left out; 0 for errors alone."""
        ends = self.by_kind
        reached = ends["token"] + ends["position"]
        missed = ends["error"] + ends["untraced"] + ends["rest"]
        return reached / (reached + missed) if reached + missed > 0 else 0.0

    @cached_property
    def completeness(self) -> float:
        """Completeness score: how much of the inputs of features and logits is no error, nor left
        out, weighted by what flows through them.  A feature that was not traced counts 0."""
        explained, weight = self._explained
        return float(explained.sum() / weight.sum()) if weight.sum() > 0 else 0.0

    @cached_property
    def completeness_ct(self) -> float:
        """The same as circuit-tracer publishes it: tokens and errors, which have no inputs, count
        as explained, so that a graph of errors alone scores .5."""
        explained, weight = self._explained
        nodes = self.graph.nodes
        leaf = np.isin(nodes.kind, (NodeKind.token, NodeKind.position, NodeKind.error))
        flat = float(self.through_N[leaf].sum())
        total = float(weight.sum()) + flat
        return (float(explained.sum()) + flat) / total if total > 0 else 0.0

    @cached_property
    def _explained(self) -> tuple[Floats, Floats]:
        """By node with inputs: (what of its weight is explained, its weight)."""
        graph, rows = self.graph, self.graph.rows
        errors = graph.nodes.kind[rows.source] == NodeKind.error
        unexplained_R = rows.sums(np.where(errors, self.share_E, 0.0)) + self.rest_share_R
        inner = np.isin(graph.nodes.kind, (NodeKind.feature, NodeKind.logit))
        weight = np.where(inner, self.through_N, 0.0)
        explained = np.zeros(len(graph.nodes))
        explained[rows.target] = weight[rows.target] * (1 - unexplained_R)
        return explained, weight


def influence(graph: Graph, biases: bool = False) -> Influence:
    """One pass over the rows from the top; O(edges).

    ``biases``: whether they are sources like the others, or left out of the shares.
    """
    rows = graph.rows
    mass_E = np.abs(rows.weight)
    if not biases:
        mass_E = np.where(graph.bias_edges, 0.0, mass_E)
    mass_R = np.maximum(rows.sums(mass_E) + rows.rest_mass, 1e-300)
    share_E = mass_E / mass_R[rows.row_of_edge]
    rest_share_R = rows.rest_mass / mass_R
    through_N = np.zeros(len(graph.nodes))
    through_N[np.asarray(graph.goals, np.int64)] = graph.goal_weights
    into_rest_R = np.zeros(len(rows))
    for level in graph.levels():
        edges = slice(int(rows.start[level.start]), int(rows.start[level.stop]))
        flow_R = through_N[rows.target[level]]
        into_rest_R[level] = flow_R * rest_share_R[level]
        flow_E = np.repeat(flow_R, np.diff(rows.start[level.start : level.stop + 1]))
        np.add.at(through_N, rows.source[edges], flow_E * share_E[edges])
    return Influence(graph, through_N, share_E, rest_share_R, into_rest_R)


def total_effects(graph: Graph) -> npt.NDArray[np.float64]:
    """Signed: by how much each node, features downstream taken as linear, holds up the goals.

    ``[G, N]``: taking a feature away changes goal g by ``-effects[g, feature]``, if no feature is
    switched on or off by that.
    """
    rows = graph.rows
    effects_GN = np.zeros((len(graph.goals), len(graph.nodes)))
    effects_GN[np.arange(len(graph.goals)), list(graph.goals)] = 1.0
    value = _carried(graph)
    for level in graph.levels():
        edges = slice(int(rows.start[level.start]), int(rows.start[level.stop]))
        target = rows.target[level][rows.row_of_edge[edges] - level.start]
        for goal_N in effects_GN:
            flow_E = goal_N[target] / value[target] * rows.weight[edges]
            np.add.at(goal_N, rows.source[edges], flow_E)
    return effects_GN


def _carried(graph: Graph) -> Floats:
    """What a node's own value is, to say which part of it an edge is; 1 of goals, whose effects are
    told as they are."""
    value = np.ones(len(graph.nodes))
    features = graph.nodes.kind == NodeKind.feature
    value[features] = graph.nodes.value[features]
    return np.where(value == 0, 1.0, value)
