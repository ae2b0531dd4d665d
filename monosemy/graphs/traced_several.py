"""Graphs of several prompts, to look at together.  No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import overload

import numpy as np

from monosemy.errors import DataError
from monosemy.graphs.aligned import GraphToAlign
from monosemy.graphs.common import LISTED, common
from monosemy.graphs.graph import Ints
from monosemy.graphs.traced import TracedGraph
from monosemy.specs.rest.common_graphs import Alignment, Common

_SHOWN = 10


class TracedGraphs(Sequence[TracedGraph]):
    """What a run of several prompts makes, in their order."""

    def __init__(self, graphs: Iterable[TracedGraph]) -> None:
        self._graphs = list(graphs)

    def __len__(self) -> int:
        return len(self._graphs)

    @overload
    def __getitem__(self, at: int) -> TracedGraph: ...

    @overload
    def __getitem__(self, at: slice) -> TracedGraphs: ...

    def __getitem__(self, at: int | slice) -> TracedGraph | TracedGraphs:
        if isinstance(at, slice):
            return TracedGraphs(self._graphs[at])
        return self._graphs[at]

    def common(
        self,
        against: Iterable[TracedGraph] = (),
        align: Alignment = "sum",
        least: int = 2,
        listed: int = LISTED,
    ) -> Common:
        """What they have in common, beside chance, and beside graphs of other prompts.

        ``DataError`` for graphs of several host models or through several SAEs, feature circuits,
        fewer than two, and a ``least`` that is not from 2 to their number.
        """
        others = list(against)
        both = [*self._graphs, *others]
        if not self._graphs:
            raise DataError("There is no graph.")
        coders = [_coders(each, self._graphs[0]) for each in both]
        aligned = [
            GraphToAlign(each.graph, each.firing, own)
            for each, own in zip(both, coders, strict=True)
        ]
        try:
            count = len(self._graphs)
            return common(aligned[:count], aligned[count:], align, least, listed)
        except ValueError as error:
            raise DataError(f"The graphs cannot be laid over each other: {error}.") from None

    def __repr__(self) -> str:
        return "\n".join(
            f"{each.spec.prompt!r}: replacement {each.summary.whole.replacement:.3f}"
            for each in self._graphs
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(each.spec.prompt)}</td><td>{len(each.graph.nodes)}</td>"
            f"<td>{each.summary.whole.replacement:.3f}</td></tr>"
            for each in self._graphs
        )
        heads = "<th>prompt</th><th>nodes</th><th>replacement</th>"
        return f"<table><tr>{heads}</tr>{rows}</table>"


def _coders(graph: TracedGraph, first: TracedGraph) -> Ints:
    """By coder of ``graph``, its number among those of ``first``."""
    if not isinstance(graph, TracedGraph):
        raise DataError(
            "A feature circuit is of pairs of prompts: it is not laid over graphs of single ones.",
            "Compare graphs that monosemy.graph made.",
        )
    own, all_of_them = ([each.digest for each in one.saes] for one in (graph, first))
    hosts = [one.graph.about.get("host") for one in (graph, first)]
    if hosts[0] != hosts[1] or sorted(own) != sorted(all_of_them):
        raise DataError(
            f"The graph of {graph.spec.prompt!r:.60} is of another host model, or through other"
            f" SAEs, than that of {first.spec.prompt!r:.60}.",
            "Compare graphs that one set made.",
        )
    return np.array([all_of_them.index(each) for each in own])
