"""Stored graphs unpacked, the ones used last kept in memory: a page asks for nodes, edges and
drawings of one graph again and again."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

from monosemy.graphs.graph import Graph
from monosemy.graphs.influence import Influence, influence
from monosemy.graphs.store import graph_of_bytes
from monosemy.graphs.whole_influence import WholeInfluence
from service.database.graph_tables import StoredGraph

MOST_EDGES = 8_000_000
"""Edges kept in memory together, at some 50 bytes each; the graph asked for last always is."""


@dataclass(frozen=True)
class LoadedGraph:
    """A stored graph, and what the nodes of the whole one carried."""

    graph: Graph
    whole: WholeInfluence

    @cached_property
    def flow(self) -> Influence:
        return influence(self.graph)


class LoadedGraphs:
    """By id and time of creation; safe to use from many threads."""

    def __init__(self, most_edges: int = MOST_EDGES) -> None:
        self._most = most_edges
        self._kept: OrderedDict[tuple[uuid.UUID, dt.datetime], LoadedGraph] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, row: StoredGraph) -> LoadedGraph:
        """The graph of a row, whose bytes are read when it is not in memory."""
        key = (row.id, row.created_at)
        with self._lock:
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
                return known
        made = LoadedGraph(
            graph_of_bytes(row.graph, f"graph {row.id}"), WholeInfluence.of_bytes(row.whole)
        )
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > 1 and self._edges() > self._most:
                self._kept.popitem(last=False)
        return made

    def _edges(self) -> int:
        return sum(len(each.graph.rows.source) for each in self._kept.values())
