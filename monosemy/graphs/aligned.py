"""Parts of several graphs under the same numbers: features, tokens, what is explained.  No torch.

A *unit* is a feature (with its place, where graphs are aligned by places), a token by its text, or
all goals of a graph together.  Nodes of one unit are summed, and so are the edges between two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monosemy.graphs.firing import Firing
from monosemy.graphs.graph import Branch, Floats, Graph, Ints, NodeKind
from monosemy.graphs.influence import influence, total_effects
from monosemy.specs.rest.common_graphs import Alignment

Mask = npt.NDArray[np.bool_]

GOAL = -1
"""Key of what is explained."""
_PLACES = 1 << 16
_LATENTS = 1 << 31


@dataclass(frozen=True)
class GraphToAlign:
    """A stored graph, and what fires on its prompt where that is known."""

    graph: Graph
    firing: Firing | None = None
    coders: Ints | None = None
    """By coder of the graph, its number among the coders of all; None: the same."""


@dataclass(frozen=True)
class AlignedGraph:
    """A graph as units, ``[U]`` each, and the edges between them, ``[E]``."""

    key_U: Ints
    """Ascending.  What a key means is up to ``Aligner``."""
    share_U: Floats
    """Of the influence, what flows through a unit."""
    effect_U: Floats
    """Signed: by how much it holds up the goals."""
    level_U: Ints
    """Edges lead to higher ones: twice the layer, and one more of an MLP's features."""
    source_E: Ints
    """Places among the units."""
    target_E: Ints
    flow_E: Floats
    weight_E: Floats
    fires_A: Ints | None
    """Keys of the features that fire, ascending; None: not known."""
    activation_A: Floats | None
    """Summed over the nodes of a key."""

    @property
    def is_feature_U(self) -> Mask:
        return np.asarray(self.key_U >= 0)


class Aligner:
    """Gives units of different graphs the same keys: features from 0 on, goals -1, tokens below."""

    def __init__(self, align: Alignment) -> None:
        self.align = align
        self._texts: dict[str, int] = {}

    def of(self, one: GraphToAlign) -> AlignedGraph:
        graph, nodes = one.graph, one.graph.nodes
        feature, token = nodes.kind == NodeKind.feature, nodes.kind == NodeKind.token
        is_goal = np.zeros(len(nodes), bool)
        is_goal[np.asarray(graph.goals, np.int64)] = True
        place_T = self._places(graph)
        key_N = np.zeros(len(nodes), np.int64)
        key_N[feature] = self._features(
            one, nodes.coder[feature], nodes.number[feature], place_T[nodes.position[feature]]
        )
        key_N[token] = -2 - self._of_texts(graph)[nodes.position[token]]
        key_N[is_goal] = GOAL
        meant = np.flatnonzero(feature | token | is_goal)
        key_U, unit = np.unique(key_N[meant], return_inverse=True)
        unit_N = np.full(len(nodes), -1)
        unit_N[meant] = unit
        flow = influence(graph)
        total = max(flow.total, 1e-300)
        weights = graph.goal_weights / total
        level_N = 2 * np.where(is_goal, graph.layers, nodes.layer)
        level_N += feature & (nodes.branch == Branch.mlp)
        level_U = np.full(len(key_U), -2)
        level_U[unit] = level_N[meant]

        def summed(values: Floats) -> Floats:
            return np.bincount(unit, values[meant], minlength=len(key_U)).astype(np.float64)

        fires, activation = self._firing(one, place_T)
        return AlignedGraph(
            key_U,
            summed(flow.through_N / total),
            summed(weights @ total_effects(graph)),
            level_U,
            *_edges(graph, unit_N, flow.through_N / total, flow.share_E, len(key_U)),
            fires,
            activation,
        )

    def described(self, key: int) -> tuple[int, int, str | None]:
        """(coder, latent, place) of a feature's key."""
        rest, place = divmod(key, _PLACES)
        coder, latent = divmod(rest, _LATENTS)
        if self.align == "sum":
            return coder, latent, None
        return coder, latent, f"{-place}" if self.align == "end" else self.text(-2 - place)

    def text(self, key: int) -> str:
        """Of a token's key."""
        return list(self._texts)[-2 - key]

    def _of_texts(self, graph: Graph) -> Ints:
        """``[T]``: number of the text of each token."""
        return np.array(
            [self._texts.setdefault(each, len(self._texts)) for each in graph.texts], np.int64
        )

    def _places(self, graph: Graph) -> Ints:
        """``[T]``: what tells the places of a feature apart."""
        count = len(graph.texts)
        if self.align == "sum":
            return np.zeros(count, np.int64)
        if self.align == "end":
            return np.minimum(np.arange(count)[::-1], _PLACES - 1)
        return np.minimum(self._of_texts(graph), _PLACES - 1)

    def _features(self, one: GraphToAlign, coder: Ints, latent: Ints, place: Ints) -> Ints:
        own = coder if one.coders is None else one.coders[coder]
        return np.asarray((own * _LATENTS + latent) * _PLACES + place)

    def _firing(self, one: GraphToAlign, place_T: Ints) -> tuple[Ints | None, Floats | None]:
        fires = one.firing
        if fires is None:
            return None, None
        key = self._features(one, fires.coder, fires.latent, place_T[fires.position])
        key_A, at = np.unique(key, return_inverse=True)
        summed = np.bincount(at, np.abs(fires.activation), minlength=len(key_A))
        return key_A, summed.astype(np.float64)


def coder_of(key: Ints) -> Ints:
    """Of keys of features."""
    return np.asarray(key // (_PLACES * _LATENTS))


def _edges(
    graph: Graph, unit_N: Ints, through_N: Floats, share_E: Floats, units: int
) -> tuple[Ints, Ints, Floats, Floats]:
    """(source, target, flow, weight) between units; into goals, weighted as those count."""
    rows = graph.rows
    target_of_edge = rows.target[rows.row_of_edge]
    at = np.flatnonzero((unit_N[rows.source] >= 0) & (unit_N[target_of_edge] >= 0))
    source, target = unit_N[rows.source[at]], unit_N[target_of_edge[at]]
    counts = np.ones(len(graph.nodes))
    total = max(float(graph.goal_weights.sum()), 1e-300)
    counts[np.asarray(graph.goals, np.int64)] = graph.goal_weights / total
    flow = (through_N[target_of_edge] * share_E)[at]
    weight = rows.weight[at] * counts[target_of_edge[at]]
    pair, inverse = np.unique(source * units + target, return_inverse=True)
    return (
        pair // max(units, 1),
        pair % max(units, 1),
        np.bincount(inverse, flow, minlength=len(pair)).astype(np.float64),
        np.bincount(inverse, weight, minlength=len(pair)).astype(np.float64),
    )
