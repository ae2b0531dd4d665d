"""A stored feature circuit with made-up figures; no torch."""

from __future__ import annotations

import uuid

import numpy as np
from sqlalchemy.orm import Session

from monosemy.graphs.graph import Graph, NodeKind, Nodes, Rows
from monosemy.graphs.summary import summary_of
from monosemy.graphs.whole_influence import WholeInfluence
from monosemy.specs.circuits import IndirectObjectTask
from monosemy.specs.feature_circuits import (
    CircuitAtNodes,
    ExactEffects,
    FeatureCircuitSpec,
    FeatureCircuitSummary,
    HeldOutCheck,
    SiteEffects,
    TokenEffects,
)
from monosemy.specs.graphs import GraphForecast, GraphSae
from monosemy.specs.rest.circuits import WithInterval
from service.graphs.storing import GraphDetails, NewGraph, keep_graph

CIRCUIT = uuid.UUID(int=26)
SITES = ("blocks.0.hook_resid_post", "blocks.1.attn.hook_z", "blocks.1.hook_mlp_out")
PROMPT = "When Mary and John went to the store, John gave a drink to"


def circuit_graph() -> Graph:
    """Three features of each of three sites, an error of each, the prompt's tokens and a metric."""
    features, sites = 9, len(SITES)
    layer = np.array([*np.repeat(np.arange(sites), 3), *range(sites), -1, sites])
    kind = np.array(
        [*[NodeKind.feature] * features, *[NodeKind.error] * sites, NodeKind.token, NodeKind.logit]
    )
    count, goal = len(kind), len(kind) - 1
    effect = np.linspace(1.0, -0.4, count)
    effect[goal] = 3.5
    nodes = Nodes(
        kind=kind.astype(np.int64),
        layer=layer.astype(np.int64),
        position=np.zeros(count, np.int64),
        coder=np.where(kind == NodeKind.feature, layer, -1).astype(np.int64),
        number=np.where(kind == NodeKind.feature, np.arange(count), -1).astype(np.int64),
        value=effect,
    )
    targets = np.array([goal, *range(features - 1, -1, -1)])
    sources = [np.flatnonzero(layer < layer[target]) for target in targets]
    weights = [
        effect[target] * np.full(len(own), 0.8 / len(own))
        for target, own in zip(targets, sources, strict=True)
    ]
    return Graph(
        ids=(-1,),
        texts=("all tokens",),
        layers=sites,
        nodes=nodes,
        rows=Rows(
            target=targets,
            start=np.concatenate([[0], np.cumsum([len(own) for own in sources])]),
            source=np.concatenate(sources),
            weight=np.concatenate(weights),
            rest=0.2 * effect[targets],
            rest_mass=np.abs(0.2 * effect[targets]),
            value=effect[targets],
        ),
        goals=(goal,),
        goal_labels=("right answer - wrong answer",),
        goal_weights=np.ones(1),
        about={"sites": list(SITES)},
    )


def figure(value: float, width: float = 0.1) -> WithInterval:
    return WithInterval(value=value, low=value - width, high=value + width)


def circuit_summary() -> FeatureCircuitSummary:
    """One site misses a fifth, tokens more than half, errors do most, and random circuits reach
    what the circuit does."""
    curve = [
        CircuitAtNodes(
            nodes=size,
            with_errors=figure(0.6 + size / 30),
            without_errors=figure(size / 12),
            complement=figure(1 - size / 10),
            random_with_errors=figure(0.6 + size / 60, 0.2) if size else None,
            random_without_errors=figure(size / 40) if size else None,
            neurons=figure(size / 50) if size else None,
        )
        for size in (0, 1, 2, 4, 8, 9)
    ]
    sites = [
        SiteEffects(
            site=site,
            reads="blocks.1.hook_resid_mid" if place == 2 else site,
            sae=f"sae-{place}",
            active=120 + place,
            kept=3,
            features=2.0,
            error=1.0,
            cut=3.0 + (0.7 if place == 1 else 0.0),
            residual=-0.7 if place == 1 else 0.0,
            kept_share=0.4,
        )
        for place, site in enumerate(SITES)
    ]
    return FeatureCircuitSummary(
        task="indirect-objects",
        method="ig",
        midpoints=10,
        positions="summed",
        pairs=20,
        held_out=20,
        patched=True,
        clean=figure(3.2),
        patch=figure(-0.3),
        sites=sites,
        tokens=TokenEffects(effect=5.53, cut=3.5, residual=2.03),
        edges=60,
        edge_share=0.9,
        unexplained=0.05,
        exact=ExactEffects(
            n=30, correlation=figure(0.9), attribution_patching=figure(0.8), mean_real=0.1
        ),
        check=HeldOutCheck(pairs=20, host=figure(3.1), none=figure(-0.1), curve=curve),
        forecast=GraphForecast(tokens=16, features=363, rows=10, seconds=40.0, bytes=2**28),
    )


def add_feature_circuit(session: Session) -> FeatureCircuitSummary:
    """``CIRCUIT``, called ``ioi``."""
    graph, circuit = circuit_graph(), circuit_summary()
    spec = FeatureCircuitSpec(pairs=IndirectObjectTask(count=40))
    new = NewGraph(
        id=CIRCUIT,
        name="ioi",
        kind="feature_circuit",
        run_id=CIRCUIT,
        model="host",
        prompt=PROMPT,
        graph=graph,
        whole=WholeInfluence.of(graph),
        summary=summary_of(graph, graph, circuit.forecast),
        saes=[
            GraphSae(id=str(uuid.UUID(int=800 + place)), name=f"sae-{place}", digest="1" * 16)
            for place in range(len(SITES))
        ],
        details=GraphDetails(feature_circuit_spec=spec, feature_circuit=circuit),
    )
    keep_graph(session, new, None)
    return circuit
