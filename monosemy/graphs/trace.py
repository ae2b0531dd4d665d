"""Traces a graph: rows of the goals, then of the features through which most influence flows.

Features whose inputs are not traced yet are ends of the flow, so what is left untraced is known
exactly at every moment: tracing stops where that share is small, and says how small.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from monosemy.errors import DataError
from monosemy.graphs.goals import Goal
from monosemy.graphs.graph import Graph, Ints, NodeKind, Nodes, Rows
from monosemy.graphs.names import BIASES
from monosemy.graphs.prompt import ReplacedPrompt
from monosemy.graphs.side_by_side import SideBySide
from monosemy.graphs.sources import EdgeRows, Sources
from monosemy.graphs.store import kept_mass
from monosemy.graphs.transposed import Target
from monosemy.progress import SILENT, Reporter

STAGE = "graph"

T = TypeVar("T")


@dataclass(frozen=True)
class TraceOptions:
    """How far a graph is traced, and what of its rows is kept."""

    batch: int = 64
    """Targets that go down the host together; memory is in proportion."""
    most_features: int | None = 7500
    """Features whose inputs are traced; None: no bound."""
    untraced: float = 0.01
    """Tracing stops where less than this share of the influence ends in features whose inputs were
    not traced."""
    row_mass: float = 0.99
    """Of each row the largest edges are kept that hold this share of its mass; the rest is one
    number.  1 keeps all that are not 0."""
    row_edges: int | None = 20_000
    """So many edges of a row are kept at most, also where that is less of its mass."""
    between_ranks: int = 4
    """Batches that are traced between two looks at the influence."""


@dataclass(frozen=True)
class _SparseRow:
    """8 bytes an edge: graphs of long prompts have a hundred million."""

    source: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float32]
    flowing: int
    """The first so many edges are from no bias."""
    rest: float
    rest_mass: float
    value: float


def trace(
    prompt: ReplacedPrompt,
    goals: Sequence[Goal],
    options: TraceOptions | None = None,
    reporter: Reporter = SILENT,
    beside: Sequence[ReplacedPrompt] = (),
) -> Graph:
    """The graph of a prompt; the same arrays for the same prompt, host and coders on one machine.

    ``beside``: the prompt as other devices have read it; batches between two looks at the influence
    go to all of them (so no more than ``between_ranks`` are ever busy).  Raises ``DataError`` for
    no goal, and where devices do not agree about which features are active.

    Its progress is the stage ``graph``: rows traced, with the share untraced as a metric.
    """
    options = options or TraceOptions()
    if not goals:
        raise DataError("A graph needs one logit or direction to explain.")
    work = _Tracing([prompt, *beside], goals, options)
    most = len(prompt.features)
    if options.most_features is not None:
        most = min(most, options.most_features)
    with reporter.stage(STAGE, total=len(goals) + most, unit="rows") as stage:
        for count in work.trace_goals():
            stage.advance(count)
        while work.traced < most:
            share, ranked = work.next_features(
                min(options.batch * options.between_ranks, most - work.traced)
            )
            if share <= options.untraced or not len(ranked):
                break
            for count in work.trace_features(ranked.tolist()):
                stage.advance(count, untraced=round(share, 6))
    return work.graph()


def _pieces(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[at : at + size] for at in range(0, len(items), size)]


class _Tracing:
    """Rows as they come, by level from the top: goals first, then layers."""

    def __init__(
        self, prompts: Sequence[ReplacedPrompt], goals: Sequence[Goal], options: TraceOptions
    ) -> None:
        self.prompt, self.goals, self.options = prompts[0], goals, options
        self.devices = SideBySide(prompts)
        self.sources = self.devices.first.sources
        self.rows: dict[int, _SparseRow] = {}
        self.traced = 0
        self.nodes = _nodes(self.prompt, goals)
        self.level_N = self.nodes.depth
        self.position_N = self.prompt.features.position_N.cpu().numpy()
        weights = np.array([goal.weight for goal in goals], float)
        if not (weights >= 0).all() or not weights.sum() > 0:
            raise DataError("Weights of what a graph explains are 0 or more, and not all 0.")
        self.weights = weights
        self.levels: dict[int, list[int]] = defaultdict(list)
        """Nodes with rows, by their level."""

    def trace_goals(self) -> Iterator[int]:
        """How many rows are there now, batch by batch."""
        first = self.sources.first_goal
        yield from self._trace(self.goals, range(first, first + len(self.goals)))

    def trace_features(self, numbers: Sequence[int]) -> Iterator[int]:
        """How many rows are there now, batch by batch."""
        for count in self._trace(numbers, numbers):
            self.traced += count
            yield count

    def _trace(self, targets: Sequence[Target], nodes: Sequence[int]) -> Iterator[int]:
        batches = _pieces(targets, self.options.batch)
        of_batch = _pieces(nodes, self.options.batch)
        for part, rows in zip(of_batch, self.devices.rows(batches, self._kept), strict=True):
            for node, row in zip(part, rows, strict=True):
                self.rows[node] = row
                self.levels[self._level(node)].append(node)
            yield len(part)

    def _kept(self, dense: EdgeRows) -> list[_SparseRow]:
        return [
            _sparse(edges_N, float(value), self.sources, self.options)
            for edges_N, value in zip(dense.edges_NB.T, dense.value_B, strict=True)
        ]

    def _level(self, node: int) -> int:
        return int(self.level_N[node])

    def next_features(self, count: int) -> tuple[float, Ints]:
        """(share of the influence that ends in features not traced, those of them that come next,
        in the order in which one pass serves many)."""
        through = np.zeros(self.sources.first_goal + len(self.goals))
        through[self.sources.first_goal :] = self.weights
        for level in sorted(self.levels, reverse=True):
            for node in self.levels[level]:
                row = self.rows[node]
                if through[node] == 0:
                    continue
                mass = np.abs(row.weight[: row.flowing]).astype(np.float64)
                scale = through[node] / max(mass.sum() + row.rest_mass, 1e-300)
                # A source stands once in a row, so that this adds up.
                through[row.source[: row.flowing]] += mass * scale
        ends = through[: self.sources.features]
        ends[[node for node in self.rows if node < len(ends)]] = 0.0
        order = np.argsort(-ends, kind="stable")[:count]
        order = order[ends[order] > 0]
        near = np.lexsort((order, self.position_N[order], self.level_N[order]))
        return float(ends.sum() / self.weights.sum()), order[near]

    def graph(self) -> Graph:
        share, _ = self.next_features(1)
        prompt = self.prompt
        nodes = self.nodes
        order = sorted(self.rows, key=lambda node: (-self._level(node), node))
        parts = [self.rows[node] for node in order]
        start = np.concatenate([[0], np.cumsum([len(row.source) for row in parts])])
        rows = Rows(
            np.array(order, np.int64),
            start.astype(np.int64),
            np.concatenate([row.source for row in parts], dtype=np.int64),
            np.concatenate([row.weight for row in parts], dtype=np.float64),
            np.array([row.rest for row in parts]),
            np.array([row.rest_mass for row in parts]),
            np.array([row.value for row in parts]),
        )
        first = self.sources.first_goal
        graph = Graph(
            ids=prompt.ids_T,
            texts=tuple(str(prompt.host.tokenizer.decode([each])) for each in prompt.ids_T),
            layers=prompt.layers,
            nodes=nodes,
            rows=rows,
            goals=tuple(range(first, first + len(self.goals))),
            goal_labels=tuple(goal.label for goal in self.goals),
            goal_weights=self.weights,
            about={
                "whole_tokens": prompt.model.whole_tokens,
                "features": len(prompt.features),
                "traced_features": self.traced,
                "untraced_share": share,
                "row_mass": self.options.row_mass,
            },
        )
        coverage = {
            "rounding": float(graph.rounding.max()),
            "least_row_mass": float(kept_mass(graph).min()),
        }
        return replace(graph, about={**graph.about, **coverage})


def _sparse(edges_N: Tensor, value: float, sources: Sources, options: TraceOptions) -> _SparseRow:
    """The largest edges that hold a share of the mass, in the order of their sources; biases are
    always kept, and come last."""
    row = edges_N.detach().cpu().numpy()
    flowing = row[: sources.first_bias]
    at = np.flatnonzero(flowing)
    size = np.abs(flowing[at]).astype(np.float64)
    whole, total = float(flowing.sum(dtype=np.float64)), float(size.sum())
    if len(at) and (options.row_mass < 1 or options.row_edges is not None):
        order = np.argsort(-size, kind="stable")
        enough = len(order)
        if options.row_mass < 1:
            enough = int(np.searchsorted(np.cumsum(size[order]), options.row_mass * total)) + 1
        if options.row_edges is not None:
            enough = min(enough, options.row_edges)
        at = np.sort(at[order[:enough]])
    kept = flowing[at]
    biases = np.flatnonzero(row[sources.first_bias :]) + sources.first_bias
    left = total - float(np.abs(kept).sum(dtype=np.float64)) if len(at) < len(size) else 0.0
    return _SparseRow(
        np.concatenate([at, biases]).astype(np.int32),
        np.concatenate([kept, row[biases]]),
        len(at),
        whole - float(kept.sum(dtype=np.float64)),
        max(left, 0.0),
        value,
    )


def _nodes(prompt: ReplacedPrompt, goals: Sequence[Goal]) -> Nodes:
    """All of a prompt, in the order of ``Sources``, goals last."""
    features, tokens, layers = prompt.features, prompt.length, prompt.layers
    ids, places = np.array(prompt.ids_T, np.int64), np.arange(tokens)
    spots = 1 if prompt.position_TD is None else 2
    positions = [places] * (spots - 1)
    counts = {
        NodeKind.feature: len(features),
        NodeKind.error: (layers + len(prompt.coded_attention)) * tokens,
        NodeKind.token: tokens,
        NodeKind.position: tokens * (spots - 1),
        NodeKind.bias: len(BIASES),
        NodeKind.logit: len(goals),
    }
    total = sum(counts.values())

    def column(*parts: Sequence[int] | Ints) -> Ints:
        joined = np.concatenate([np.asarray(part, np.int64) for part in parts])
        assert len(joined) == total
        return joined

    def alike(number: int, *kinds: NodeKind) -> Ints:
        return np.full(sum(counts[kind] for kind in kinds), number)

    def of(tensor: Tensor) -> Ints:
        return tensor.cpu().numpy().astype(np.int64)

    below = (NodeKind.token, NodeKind.position, NodeKind.bias)
    attended = list(prompt.coded_attention)
    error_layer, error_place = (
        each.ravel() for each in np.meshgrid([*range(layers), *attended], places, indexing="ij")
    )
    coders = prompt.model.coders
    attends = np.array([coder.attention is not None for coder in coders], np.int64)
    probabilities = [goal.probability or 0.0 for goal in goals]
    value = np.zeros(total)
    value[: len(features)] = features.activation_N.cpu().double().numpy()
    value[total - len(goals) :] = probabilities
    return Nodes(
        kind=column(*(np.full(count, int(kind)) for kind, count in counts.items())),
        layer=column(
            of(features.layer_N),
            error_layer,
            alike(-1, *below),
            alike(layers, NodeKind.logit),
        ),
        position=column(
            of(features.position_N),
            error_place,
            places,
            *positions,
            alike(-1, NodeKind.bias),
            [goal.position for goal in goals],
        ),
        coder=column(of(features.coder_N), alike(-1, NodeKind.error, *below, NodeKind.logit)),
        number=column(
            of(features.latent_N),
            alike(-1, NodeKind.error),
            ids,
            *positions,
            np.arange(len(BIASES)),
            [-1 if goal.token is None else goal.token for goal in goals],
        ),
        value=value,
        branch=column(
            attends[of(features.coder_N)],
            np.repeat([0, 1], [layers * tokens, len(attended) * tokens]),
            np.zeros(total - len(features) - counts[NodeKind.error], np.int64),
        ),
    )
