"""Stored graphs, made by the library's own functions of a random graph; no torch."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import numpy as np
from sqlalchemy.orm import Session

from monosemy.graphs.graph import Graph, NodeKind
from monosemy.graphs.pruning import prune
from monosemy.graphs.summary import summary_of
from monosemy.graphs.whole_influence import WholeInfluence
from monosemy.specs.graphs import (
    AblationAgreement,
    CheckedPart,
    CircuitAtSize,
    CircuitSearch,
    CircuitShare,
    GraphCheck,
    GraphForecast,
    GraphSae,
    GraphSpec,
    PredictedChange,
)
from monosemy.specs.rest.circuits import WithInterval
from service.database.graph_tables import StoredGraph
from service.graphs.storing import GraphDetails, NewGraph, keep_graph
from tests.support.random_graphs import random_graph

GRAPH, UPLOADED, SERVED = uuid.UUID(int=22), uuid.UUID(int=23), uuid.UUID(int=24)
PROMPT = "The capital of Texas is"


TEXTS = ("<s>", "The", " capital", " of", " Texas", " is")


def texas(
    seed: int = 0,
    layers: int = 4,
    each: int = 20,
    texts: Sequence[str] = TEXTS,
    goals: tuple[str, str] = (" Austin", " Dallas"),
) -> Graph:
    """A random graph of six tokens whose features are of one coder for each layer."""
    graph = random_graph(seed, layers, each, tokens=6)
    nodes = graph.nodes
    feature = nodes.kind == NodeKind.feature
    coder = np.where(feature, nodes.layer, -1)
    number = np.where(feature, np.arange(len(nodes)) % each, nodes.number)
    about = {"host": "0" * 16, "untraced_share": 0.0, "traced_features": int(feature.sum())}
    return Graph(
        tuple(range(6)),
        tuple(texts),
        graph.layers,
        type(nodes)(nodes.kind, nodes.layer, nodes.position, coder, number, nodes.value),
        graph.rows,
        graph.goals,
        goals,
        graph.goal_weights,
        about,
    )


def add_graph(
    session: Session,
    saes: Sequence[tuple[uuid.UUID, str]] = (),
    *,
    id: uuid.UUID = GRAPH,
    name: str | None = "texas",
    model: str = "host",
    in_set: str | None = None,
    prompt: str = PROMPT,
    uploaded: bool = False,
    checked: bool = True,
    graph: Graph | None = None,
    labels: dict[int, str] | None = None,
    owner: uuid.UUID | None = None,
) -> StoredGraph:
    """``saes``: (id, name) of each coder, in order; fewer than the graph has coders are filled up
    with ones that are not there.  ``labels``: of an uploaded graph's features, by node."""
    whole = graph or texas()
    pruned = prune(whole, 0.8, 0.98)
    summary = summary_of(whole, pruned.graph)
    coders = 1 + int(whole.nodes.coder.max())
    names = [GraphSae(id=str(sae), name=called, digest="0" * 16) for sae, called in saes]
    gone = [
        GraphSae(id=str(uuid.UUID(int=900 + coder)), name=f"gone-{coder}", digest="1" * 16)
        for coder in range(len(names), coders)
    ]
    forecast = GraphForecast(tokens=6, features=80, rows=82, seconds=0.5, bytes=2**20)
    summary = summary.model_copy(
        update={
            "forecast": None if uploaded else forecast,
            "check": check() if checked and not uploaded else None,
        }
    )
    new = NewGraph(
        id=id,
        name=name,
        model=model,
        in_set=in_set,
        prompt=prompt,
        graph=pruned.graph,
        whole=WholeInfluence.of(whole, pruned.kept),
        summary=summary,
        saes=[] if uploaded else [*names, *gone],
        uploaded=uploaded,
        details=GraphDetails(
            spec=None if uploaded else GraphSpec(prompt=prompt),
            labels=labels or {},
            notes=["3 links name nodes that are not in the file, and were left out."]
            if uploaded
            else [],
        ),
    )
    return keep_graph(session, new, owner)


def check() -> GraphCheck:
    """Made-up figures of an ablation."""

    def agreement(n: int, slope: float) -> AblationAgreement:
        return AblationAgreement(
            n=n,
            slope=WithInterval(value=slope, low=slope - 0.2, high=slope + 0.2),
            spearman=WithInterval(value=0.8, low=0.6, high=0.9),
            same_sign=0.9,
            mean_real=0.4,
        )

    changes = [
        PredictedChange(
            name=f"{layer}/{layer} at 4 ({' Texas'})",
            predicted=0.5 * layer,
            frozen=0.5 * layer,
            mlps_held=None,
            free=0.4 * layer,
        )
        for layer in range(4)
    ]
    part = CheckedPart(
        strongest=agreement(4, 0.8), matched=agreement(4, 0.6), mlps_held=None, changes=changes
    )
    share = CircuitShare(
        features=12,
        whole=2.0,
        none=-0.5,
        kept=0.7,
        lost=0.9,
        random_kept=WithInterval(value=0.1, low=-0.1, high=0.3),
        random_lost=WithInterval(value=0.05, low=-0.1, high=0.2),
    )
    bare = share.model_copy(update={"random_kept": None, "random_lost": None, "kept": 0.3})
    curve = [
        CircuitAtSize(
            features=size, kept=size / 12, random_kept=0.1, random_low=-0.1, random_high=0.2
        )
        for size in (1, 2, 4, 8, 12)
    ]
    search = CircuitSearch(
        wanted=0.6, features=8, kept=8 / 12, names=["0/3@1", "1/2@4"], curve=curve, orders=3
    )
    return GraphCheck(
        goal=" Austin",
        nodes=part,
        edges=part,
        with_errors=share,
        without_errors=bare,
        search=search,
    )


def add_graphs(session: Session) -> None:
    """``GRAPH`` and, older, ``UPLOADED``."""
    add_graph(session, id=UPLOADED, name="from elsewhere", model="other", uploaded=True)
    session.flush()
    add_graph(session)
