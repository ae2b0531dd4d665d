"""Attribution graphs as the API shows them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, Literal

from monosemy.specs.described import Described
from monosemy.specs.feature_circuits import FeatureCircuitSpec, FeatureCircuitSummary
from monosemy.specs.graphs import (
    GraphCheck,
    GraphEdge,
    GraphForecast,
    GraphGoalView,
    GraphScores,
    GraphSpec,
)
from monosemy.specs.rest.circuits import WithInterval

GraphKind = Literal["graph", "feature_circuit"]


class GraphHeader(Described):
    """A graph in a listing."""

    id: uuid.UUID
    """That of the run which traced it alone, or its own."""
    name: str
    kind: GraphKind
    """The kind of run that makes such ones: `graph`, of a prompt; `feature_circuit`, of pairs of
    prompts."""
    model: str
    """The host model; of an uploaded graph what its file calls `scan`."""
    set: str | None
    """The set of its SAEs, where the run named one."""
    saes: list[str]
    """Names of its SAEs, in the order of `coder`; empty for an uploaded graph."""
    prompt: str
    """Of a feature circuit the first of its prompts."""
    created_at: dt.datetime
    tokens: list[str]
    goals: list[GraphGoalView]
    nodes: int
    """Of the graph as it is stored, pruned."""
    edges: int
    whole: GraphScores
    """Before it was pruned."""
    pruned: GraphScores
    run: uuid.UUID | None
    """The run that traced it; null where it was uploaded."""
    place: int = 0
    """Of its prompt among those of the run, from 0."""
    prompts: int = 1
    """Of the run."""
    checked: bool
    """Whether it was checked by ablation; feature circuits are, on pairs left out."""


class Supernode(Described):
    """Nodes that somebody has put together under a name."""

    name: str
    nodes: list[int]


class GraphView(GraphHeader):
    """A graph with all that is said of it, but its nodes and edges."""

    spec: GraphSpec | None
    """What was asked for; null where it was uploaded, and of a feature circuit."""
    feature_circuit_spec: FeatureCircuitSpec | None
    """What was asked for, of a feature circuit."""
    feature_circuit: FeatureCircuitSummary | None
    """What is said of a feature circuit; null of a graph of a prompt."""
    sites: list[str]
    """Of a feature circuit what each layer of its graph is, for its layers are sites."""
    forecast: GraphForecast | None
    """What it was to take, told before it was traced; null where it was uploaded."""
    traced: int
    """Features whose inputs were traced."""
    untraced: float
    """Share of the influence that ends in features whose inputs were not."""
    rounding: float
    """What a row misses of its value at most, as a share of the mass of its parts."""
    least_row_mass: float
    """The least share of a row's absolute values that its kept edges hold."""
    check: GraphCheck | None
    """How far its first goal is to be believed."""
    token_ids: list[int]
    """-1 where an uploaded file does not say them."""
    served: list[bool]
    """Of each of `saes`, whether it is still here with the weights that the graph was made with:
    its features have pages and headings."""
    about: dict[str, Any]
    """What it was made with: fingerprints of the host model and of the SAEs, versions, how far it
    was traced and pruned."""
    notes: list[str]
    """Of an uploaded file: what was not as it should be, and was read all the same."""
    pinned: list[int]
    """Nodes that an uploaded file has pinned."""
    supernodes: list[Supernode]
    """Of an uploaded file."""


class GraphEdgeView(GraphEdge):
    """An edge of a node, with what is at its other end. An error may have two edges to one node, a
    positive and a negative one: pruning adds what it leaves out of features to the error of their
    layer and token, each sign apart."""

    other: int
    """Number of the node at the other end."""
    label: str
    """What it is called."""
    kind: Literal["feature", "error", "token", "position", "bias", "logit"]
    """Of the node at the other end, as are layer, branch and position."""
    layer: int
    """-1 where there is none."""
    branch: Literal["attention", "mlp"] | None
    position: int
    """-1 of a bias."""


class GraphKept(Described):
    """What of a graph's influence goes through the features and errors that are kept."""

    influence: float
    """Share of what goes through features and errors of the whole graph that goes through these."""
    nodes: int
    """Features and errors that are kept."""
    of_nodes: int
    """Those of the whole graph."""
    of_chance: WithInterval
    """What random features and errors of the whole graph, as many of each kind, keep: mean of the
    draws, and the middle 95 % of them."""
    draws: int


class GraphDrawing(Described):
    """A graph as columns: of each kept node, and of the strongest edges between them."""

    tokens: list[str]
    """Of a feature circuit whose positions are summed one for all."""
    layers: int
    sites: list[str]
    """What each layer is, where layers are sites, as in a feature circuit; else none."""
    node: list[int]
    """Numbers of the kept nodes, ascending, as they are stored."""
    kind: list[str]
    """`feature`, `error`, `token`, `position`, `bias` or `logit`."""
    layer: list[int]
    """-1 where there is none; the number of layers of a logit."""
    branch: list[Literal["attention", "mlp"] | None]
    """Which half of its block a feature or an error is of; null of the others, and in a feature
    circuit."""
    position: list[int]
    """-1 of a bias."""
    coder: list[int]
    """Place among the graph's `saes`; -1 of what is no feature."""
    latent: list[int | None]
    label: list[str]
    """What it is called: of a feature its heading where its SAE is served, else layer and
    latent."""
    value: list[float]
    """Activation, or probability; in a feature circuit the effect."""
    influence: list[float]
    """Share of the goals' weight that flows through it."""
    source: list[int]
    """Of the edges along which most flows, strongest first."""
    target: list[int]
    weight: list[float]
    flow: list[float]
    """Share of the goals' weight that flows along it."""
    edges: int
    """All edges of the kept graph, but those from biases; those listed are the strongest of
    them."""
    of_edges: int
    """Edges between the kept nodes before the share of `edges` was taken."""
    edge_share: float
    """What of the flow along them goes along those that were taken."""
    edge_chance: float
    """What goes along as many random ones on average."""
    kept: GraphKept
    replacement: float
    """Of the kept graph, edges that are not listed included."""
    completeness: float
