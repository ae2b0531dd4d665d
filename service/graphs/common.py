"""What stored graphs have in common: which may be laid over each other, and the answer, kept."""

from __future__ import annotations

import datetime as dt
import json
import threading
import uuid
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from monosemy.graphs.aligned import GraphToAlign
from monosemy.graphs.common import common
from monosemy.graphs.firing import Firing
from monosemy.specs.rest.common_graphs import (
    MOST_AGAINST,
    MOST_COMMON,
    Alignment,
    Common,
    CommonView,
)
from service.database.graph_tables import StoredGraph
from service.features.repository import labels_of
from service.graphs.loaded import LoadedGraphs
from service.graphs.repository import find_graph, graphs_of_run
from service.graphs.service import headers, saes_of, served
from service.kit.errors import Conflict, InvalidRequest, Listing, NotFound, Unprocessable

_WHOLE = (StoredGraph.graph, StoredGraph.whole, StoredGraph.firing)
_KEPT = 32
"""Answers in memory."""


@dataclass(frozen=True)
class CommonQuestion:
    """Which graphs, and how they are laid over each other."""

    graphs: Sequence[str] = ()
    """Ids or names; or else a run."""
    run: uuid.UUID | None = None
    against: Sequence[str] = ()
    align: Alignment = "sum"
    least: int = 2
    features: int = 100


class KeptCommon:
    """Answers by the graphs that they are of; safe to use from many threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Common] = OrderedDict()
        self._lock = threading.Lock()

    def of(
        self,
        graphs: Sequence[StoredGraph],
        against: Sequence[StoredGraph],
        asked: CommonQuestion,
        loaded: LoadedGraphs,
    ) -> Common:
        """Features are called by layer and latent: their headings change."""
        rows = [tuple(_key(row) for row in part) for part in (graphs, against)]
        key = (*rows, asked.align, asked.least, asked.features)
        with self._lock:
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
                return known
        own, others = (
            (_to_align(row, graphs[0], loaded) for row in part) for part in (graphs, against)
        )
        made = common(own, others, asked.align, asked.least, asked.features)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return made


def common_view(
    session: Session, asked: CommonQuestion, loaded: LoadedGraphs, kept: KeptCommon
) -> CommonView:
    """``NotFound`` for a graph that is not there and a run that traced none, ``InvalidRequest`` for
    too few, too many or the same twice, ``Unprocessable`` for an uploaded one and for a feature
    circuit, ``Conflict`` for graphs of several host models or through several SAEs."""
    graphs, against = _rows(session, asked)
    for row in (*graphs, *against):
        _check_alike(row, graphs[0], loaded)
    made = kept.of(graphs, against, asked, loaded)
    saes = served(session, graphs[0])
    called = _labels(session, made, [None if sae is None else sae.id for sae in saes])
    units = [
        unit.model_copy(update={"label": called.get((unit.coder, unit.latent), unit.label)})
        for unit in made.units
    ]
    first, *_ = both = headers(session, [*graphs, *against])
    return CommonView(
        **{**dict(made), "units": units},
        graphs=both[: len(graphs)],
        against=both[len(graphs) :],
        saes=first.saes,
        served=[sae is not None for sae in saes],
        run=asked.run,
    )


def _rows(session: Session, asked: CommonQuestion) -> tuple[list[StoredGraph], list[StoredGraph]]:
    if (asked.run is None) == (not asked.graphs):
        raise InvalidRequest([("graph", "name two graphs or more, or a run that traced several")])
    if asked.run is not None:
        graphs = list(graphs_of_run(session, asked.run, *_WHOLE))
        if not graphs:
            raise NotFound("graph of a run", asked.run, Listing.GRAPHS)
    else:
        graphs = [find_graph(session, each, *_WHOLE) for each in asked.graphs]
    against = [find_graph(session, each, *_WHOLE) for each in asked.against]
    if not 2 <= len(graphs) <= MOST_COMMON:
        says = f"it takes 2 to {MOST_COMMON} graphs, not {len(graphs)}"
        raise InvalidRequest([("graph" if asked.run is None else "run", says)])
    if len(against) > MOST_AGAINST:
        raise InvalidRequest([("against", f"at most {MOST_AGAINST} graphs")])
    ids = [row.id for row in graphs]
    if len({*ids}) < len(ids):
        raise InvalidRequest([("graph", "a graph is named twice")])
    other = [row.id for row in against]
    if len({*other, *ids}) < len(other) + len(ids):
        raise InvalidRequest([("against", "a graph is named twice, or is one of those compared")])
    if asked.least > len(graphs):
        raise InvalidRequest([("least", f"there are {len(graphs)} graphs")])
    return graphs, against


def _check_alike(row: StoredGraph, first: StoredGraph, loaded: LoadedGraphs) -> None:
    if row.uploaded:
        raise Unprocessable(
            f"The graph '{row.name}' was uploaded: its file does not say by which weights it was"
            " made.",
            "Compare graphs that runs of this service traced.",
        )
    if row.kind != "graph":
        raise Unprocessable(
            f"'{row.name}' is a feature circuit: its nodes are effects on a difference between"
            " pairs of prompts, and what they do by chance is not known.",
            "Compare graphs that runs of kind graph traced.",
        )
    if _made_by(row, loaded) != _made_by(first, loaded):
        raise Conflict(
            f"The graph '{row.name}' is of another host model, or through other SAEs, than"
            f" '{first.name}'.",
            "Compare graphs that one set of SAEs made; trace the prompt again through that set.",
        )


def _made_by(row: StoredGraph, loaded: LoadedGraphs) -> tuple[str, str, list[str]]:
    host = loaded.of(row).graph.about.get("host")
    digests = sorted(each.digest for each in saes_of(row))
    return row.model, json.dumps(host, sort_keys=True), digests


def _key(row: StoredGraph) -> tuple[uuid.UUID, dt.datetime]:
    return row.id, row.created_at


def _to_align(row: StoredGraph, first: StoredGraph, loaded: LoadedGraphs) -> GraphToAlign:
    own, all_of_them = ([each.digest for each in saes_of(each)] for each in (row, first))
    coders = None if own == all_of_them else np.array([all_of_them.index(each) for each in own])
    firing = None if row.firing is None else Firing.of_bytes(row.firing)
    return GraphToAlign(loaded.of(row).graph, firing, coders)


def _labels(
    session: Session, made: Common, saes: Sequence[uuid.UUID | None]
) -> dict[tuple[int, int | None], str]:
    called: dict[tuple[int, int | None], str] = {}
    for coder, sae in enumerate(saes):
        latents = [each.latent for each in made.units if each.coder == coder]
        known = sorted({each for each in latents if each is not None})
        if sae is not None and known:
            labels = labels_of(session, sae, known)
            called |= {(coder, latent): label for latent, label in labels.items()}
    return called
