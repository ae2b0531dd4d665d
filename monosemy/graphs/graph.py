"""An attribution graph as arrays: nodes, rows of edges, and what of a row is left out.  No torch.

A row belongs to a target (a feature or a logit) and adds up:

    value = sum of its edges + rest          (biases are sources as well)

``rest`` is the sum of what was left out, ``rest_mass`` the sum of its absolute values.  A source
may stand twice in a row, with either sign, where pruning merged features into an error: so the mass
of a row is that of its parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class NodeKind(IntEnum):
    """What a node is; stored as these numbers."""

    feature = 0
    error = 1
    token = 2
    position = 3
    bias = 4
    logit = 5


class Branch(IntEnum):
    """Which half of a block a feature or an error is of; stored as these numbers."""

    mlp = 0
    attention = 1


@dataclass(frozen=True)
class Nodes:
    """N nodes, column by column."""

    kind: Ints
    layer: Ints
    """Of a feature the last layer that it reads, of an error its own; -1 where there is none, and
    the number of layers of a logit."""
    position: Ints
    """The token's place in the prompt; -1 of a bias."""
    coder: Ints
    """Which coder of the set a feature belongs to; -1 of the others."""
    number: Ints
    """The latent of a feature, the id of a token or of the token of a logit, the kind of a bias
    (its place in ``names.BIASES``); -1 where there is none."""
    value: Floats
    """The activation of a feature, the probability of a logit; 0 of the others."""
    branch: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """``Branch`` of features and errors, 0 of the others; left out: 0 of all."""

    def __post_init__(self) -> None:
        if not len(self.branch):
            object.__setattr__(self, "branch", np.zeros(len(self.kind), np.int64))

    def __len__(self) -> int:
        return len(self.kind)

    def at(self, which: npt.NDArray[Any]) -> Nodes:
        """These nodes alone, by a mask or by numbers."""
        return Nodes(*(getattr(self, name)[which] for name in (*NODE_COLUMNS, "branch")))

    @cached_property
    def depth(self) -> Ints:
        """``[N]``: layers, or twice that where attention has features or errors, whose edges lead
        to the MLP of their layer."""
        if not self.branch.any():
            return self.layer
        inner = np.isin(self.kind, (NodeKind.feature, NodeKind.error))
        level = 2 * self.layer + (inner & (self.branch == Branch.mlp))
        return np.where(self.layer < 0, self.layer, level)


NODE_COLUMNS = ("kind", "layer", "position", "coder", "number", "value")


@dataclass(frozen=True)
class Rows:
    """R rows of edges; those of targets in higher layers first, logits before all."""

    target: Ints
    start: Ints
    """``[R + 1]``: the edges of row r are ``start[r] : start[r + 1]``."""
    source: Ints
    weight: Floats
    rest: Floats
    rest_mass: Floats
    value: Floats

    def __len__(self) -> int:
        return len(self.target)

    @cached_property
    def row_of_edge(self) -> Ints:
        """``[E]``."""
        return np.repeat(np.arange(len(self)), np.diff(self.start))

    def sums(self, per_edge: Floats) -> Floats:
        """Of a number for each edge, the sum of each row."""
        return np.bincount(self.row_of_edge, per_edge, minlength=len(self)).astype(np.float64)


@dataclass(frozen=True)
class Graph:
    """A graph with all that says what it is of."""

    ids: tuple[int, ...]
    texts: tuple[str, ...]
    """The tokens of the prompt."""
    layers: int
    nodes: Nodes
    rows: Rows
    goals: tuple[int, ...]
    """The nodes that are explained."""
    goal_labels: tuple[str, ...]
    goal_weights: Floats
    about: Mapping[str, Any] = field(default_factory=dict)
    """What it was made with, ready for JSON."""

    level_N: Ints | None = None
    """Where layers alone do not order the edges of a graph from elsewhere: their order."""

    @cached_property
    def level_of_node(self) -> Ints:
        """``[N]``: every edge leads to a higher level."""
        return self.nodes.depth if self.level_N is None else self.level_N

    @cached_property
    def row_of_node(self) -> Ints:
        """``[N]``: the row whose target it is; -1 where its inputs were not traced."""
        rows = np.full(len(self.nodes), -1)
        rows[self.rows.target] = np.arange(len(self.rows))
        return rows

    @cached_property
    def bias_edges(self) -> npt.NDArray[np.bool_]:
        """``[E]``: which edges come from biases."""
        return np.asarray(self.nodes.kind[self.rows.source] == NodeKind.bias)

    @property
    def sites(self) -> tuple[str, ...]:
        """Of a feature circuit: what each layer is, for layers are sites there; else none."""
        named = self.about.get("sites")
        if not isinstance(named, list) or len(named) != self.layers:
            return ()
        return tuple(named) if all(isinstance(each, str) for each in named) else ()

    def edges_into(self, node: int) -> tuple[Ints, Floats]:
        """(sources, weights) of a node's row, the largest first; empty where it has none."""
        row = int(self.row_of_node[node])
        if row < 0:
            return np.zeros(0, np.int64), np.zeros(0)
        part = slice(self.rows.start[row], self.rows.start[row + 1])
        order = np.argsort(-np.abs(self.rows.weight[part]), kind="stable")
        return self.rows.source[part][order], self.rows.weight[part][order]

    def edges_from(self, node: int) -> tuple[Ints, Floats]:
        """(targets, weights) of the edges out of a node, the largest first."""
        at = np.flatnonzero(self.rows.source == node)
        order = at[np.argsort(-np.abs(self.rows.weight[at]), kind="stable")]
        return self.rows.target[self.rows.row_of_edge[order]], self.rows.weight[order]

    @cached_property
    def rounding(self) -> Floats:
        """``[R]``: what a row misses of its value, as a share of the mass of its parts."""
        rows = self.rows
        off = rows.value - rows.sums(rows.weight) - rows.rest
        mass = rows.sums(np.abs(rows.weight)) + rows.rest_mass
        return np.asarray(np.abs(off) / np.maximum(mass, 1e-30))

    def signed_masses(self) -> tuple[Floats, Floats]:
        """(positive, negative) edges into each node, summed, biases left out; ``[N]`` each."""
        rows, both = self.rows, []
        for sign in (1.0, -1.0):
            part = np.where(self.bias_edges, 0.0, np.maximum(sign * rows.weight, 0.0))
            of_node = np.zeros(len(self.nodes))
            of_node[rows.target] = sign * rows.sums(part)
            both.append(of_node)
        return both[0], both[1]

    def levels(self) -> Iterator[slice]:
        """Rows of one level at a time, from the top."""
        level = self.level_of_node[self.rows.target]
        ends = (np.flatnonzero(np.diff(level)) + 1).tolist()
        yield from map(slice, [0, *ends], [*ends, len(level)])

    def with_rows(self, rows: Rows, **about: Any) -> Graph:
        return replace(self, rows=rows, about={**self.about, **about})
