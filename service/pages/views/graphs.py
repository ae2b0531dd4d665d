"""/graphs, /graphs/{graph}, /graphs/{graph}/nodes/{node}: how a prompt becomes its next token."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query
from markupsafe import Markup
from sqlalchemy.orm import Session

from monosemy.circuit_plots import Reading, interval_curves
from monosemy.graph_plots import predicted_and_real
from monosemy.graphs.listing import End
from monosemy.specs.graphs import CheckedPart, GraphNode
from monosemy.specs.rest.graphs import (
    GraphDrawing,
    GraphEdgeView,
    GraphHeader,
    GraphKind,
    GraphView,
)
from service.edge.context import AppContext, ContextDep, SessionDep
from service.features.repository import find_feature
from service.features.service import page_of
from service.graphs import endpoints, repository, service
from service.graphs.endpoints import GraphReference, NodeKindName, NodeNumber, Share
from service.kit.pagination import DEFAULT_LIMIT, CursorParam
from service.pages.commands import packed
from service.pages.feature.examples import Drawing
from service.pages.feature.shown import FeatureShown, shown_feature
from service.pages.feature_circuit_words import belief_of, curves_of
from service.pages.graph_heads import EdgeAsked, HeadsForm, ScoreAsked, heads_form
from service.pages.graph_words import Belief, belief
from service.pages.navigation import Nav
from service.pages.page import PageRouter
from service.runs.queries import find_runs

router = PageRouter()

_ROWS = 25
_EDGES = 12
_EXAMPLES = 4
_CHANGES = 10
"""Ablations that are written out."""
_MOST_STATE = 4000
"""Characters of what the script keeps in the address."""

Layer = Annotated[int | None, Query(ge=-1, lt=2**31)]
Words = Annotated[str, Query(max_length=200)]


@dataclass(frozen=True)
class Graphs:
    graphs: list[GraphHeader]
    next_cursor: str | None
    kind: GraphKind | None
    model: str | None
    in_set: str | None
    run: uuid.UUID | None
    search: str


@router.page(
    "/graphs", "graphs.html", nav=Nav("Graphs", 43, below="Circuits"), script="pages/graphs.js"
)
def graphs(
    session: SessionDep,
    kind: GraphKind | None = None,
    model: Annotated[str | None, Query(max_length=1000)] = None,
    in_set: Annotated[str | None, Query(alias="set", max_length=200)] = None,
    search: Annotated[str, Query(max_length=1000)] = "",
    run: uuid.UUID | None = None,
    cursor: CursorParam = None,
) -> Graphs:
    page = endpoints.list_all(session, kind, model, in_set, search, run, DEFAULT_LIMIT, cursor)
    return Graphs(page.items, page.next_cursor, kind, model, in_set, run, search)


@dataclass(frozen=True)
class PartShown:
    """Nodes or edges that were ablated."""

    what: str
    part: CheckedPart
    plot: Markup


@dataclass(frozen=True)
class OneGraph:
    it: GraphView
    has_run: bool
    """Whether the run that traced it is still there."""
    shown: GraphDrawing
    """As the address prunes it."""
    node_share: float
    edge_share: float
    belief: Belief | None
    ablated: list[PartShown]
    curve: Markup | None
    """What circuits of each size keep, random ones beside."""
    curves: list[tuple[str, Markup]]
    """Of a feature circuit."""
    most_changes: int
    nodes: list[GraphNode]
    next_cursor: str | None
    kinds: tuple[str, ...]
    kind: str | None
    layer: int | None
    position: int | None
    search: str
    fragment: str
    """The prompt, for a link to steering."""
    data: dict[str, Any]
    """What the script is given."""


_ENDS: tuple[tuple[End, str], ...] = (("in", "What feeds it"), ("out", "What it feeds"))
_KINDS = ("feature", "error", "token", "position", "bias", "logit")


@router.page("/graphs/{graph}", "graph.html", script="pages/graph.js")
def graph(
    session: SessionDep,
    context: ContextDep,
    reference: GraphReference,
    nodes: Share = None,
    edges: Share = None,
    kind: NodeKindName | None = None,
    layer: Layer = None,
    position: Layer = None,
    search: Words = "",
    cursor: CursorParam = None,
    node: Annotated[int | None, Query(ge=0, lt=2**31)] = None,  # noqa: ARG001
    pinned: Annotated[str | None, Query(max_length=_MOST_STATE)] = None,  # noqa: ARG001
    groups: Annotated[list[str], Query(max_length=100)] = [],  # noqa: ARG001, B006
    edit: Annotated[list[str], Query(max_length=100)] = [],  # noqa: ARG001, B006
    held: Annotated[str | None, Query(max_length=20)] = None,  # noqa: ARG001
) -> OneGraph:
    """``node``, ``pinned``, ``groups``, ``edit`` and ``held`` are the script's: what is looked at,
    numbers of pinned nodes, NAME:NUMBERS of each supernode, NODE:MODE:STRENGTH:PLACE of each
    feature that is changed, and what is held then."""
    it = endpoints.show(session, context, reference)
    row = repository.find_graph(session, reference, *endpoints.WHOLE)
    shown = service.drawing(session, row, context.graphs.of(row), nodes, edges)
    page = endpoints.list_nodes(
        session, context, reference, kind, layer, position, search, _ROWS, cursor
    )
    fragment = packed({"text": it.prompt})
    return OneGraph(
        it=it,
        has_run=it.run is not None and bool(find_runs(session, [it.run])),
        shown=shown,
        node_share=1.0 if nodes is None else nodes,
        edge_share=1.0 if edges is None else edges,
        belief=_belief(it),
        ablated=_ablated(it),
        curve=_curve(it),
        curves=[] if it.feature_circuit is None else curves_of(it.feature_circuit),
        most_changes=_CHANGES,
        nodes=page.items,
        next_cursor=page.next_cursor,
        kinds=_KINDS,
        kind=kind,
        layer=layer,
        position=position,
        search=search,
        fragment=fragment,
        data={
            "id": str(it.id),
            "steered": f"#p={fragment}",
            "saes": it.saes,
            "served": it.served,
            "steerable": it.kind == "graph" and _steerable(it.served),
            "goals": sum(each.weight for each in it.goals),
            "marks": {
                "pinned": it.pinned,
                "groups": [{"name": e.name, "members": e.nodes} for e in it.supernodes],
            },
        },
    )


def _steerable(served: Sequence[object]) -> bool:
    """Whether the graph's prompt can be run again: all its SAEs are here."""
    return bool(served) and all(served)


def _belief(it: GraphView) -> Belief | None:
    if it.feature_circuit is not None:
        return belief_of(it.feature_circuit)
    return None if it.check is None else belief(it.check, it.untraced, it.rounding)


def _ablated(it: GraphView) -> list[PartShown]:
    parts = []
    for what in ("nodes", "edges"):
        part: CheckedPart | None = None if it.check is None else getattr(it.check, what)
        if part is not None and part.changes:
            drawn = [(each.name, each.predicted, each.free) for each in part.changes]
            says = f"Predicted and real changes of {len(drawn)} ablated {what}; the table has them"
            parts.append(PartShown(what, part, Markup(predicted_and_real(drawn, says))))
    return parts


def _curve(it: GraphView) -> Markup | None:
    search = None if it.check is None else it.check.search
    sizes = [] if search is None else [each for each in search.curve if each.features > 0]
    if search is None or not sizes:
        return None
    own = [Reading(each.features, each.kept, each.kept, each.kept) for each in sizes]
    random = [
        Reading(each.features, each.random_kept, each.random_low, each.random_high)
        for each in sizes
    ]
    series = [("own", "most influence", own), ("null", "random orders", random)]
    says = f"Kept by circuits of {sizes[0].features} to {sizes[-1].features} features, beside"
    rules = [("sought", search.wanted)]
    return Markup(
        interval_curves(series, rules, f"{says} random ones; the table has them", "features")
    )


@dataclass(frozen=True)
class EdgeList:
    end: End
    says: str
    edges: list[GraphEdgeView]
    next_cursor: str | None
    most: float
    """The largest weight in the list, whatever its sign."""

    @property
    def twice(self) -> bool:
        """Whether a node has two edges, of either sign."""
        return len({each.other for each in self.edges}) < len(self.edges)


@dataclass(frozen=True)
class OneNode:
    it: GraphHeader
    node: GraphNode
    site: str | None
    """Of a node of a feature circuit."""
    sites: Sequence[str]
    """What layers are, in a feature circuit."""
    token: str | None
    sae: str | None
    """Name of its SAE, where that is served; of a feature."""
    steerable: bool
    """Whether it can be changed in the graph's prompt."""
    heads: HeadsForm | None
    """Where the graph's prompt can be read again."""
    lists: list[EdgeList]
    feature: FeatureShown | None
    """What is known of the feature, where its SAE is served and indexed."""


@router.page("/graphs/{graph}/nodes/{node}", "graph_node.html", script="pages/graph_node.js")
def graph_node(
    session: SessionDep,
    context: ContextDep,
    reference: GraphReference,
    node: NodeNumber,
    end: End = "in",
    cursor: CursorParam = None,
    heads: EdgeAsked = None,
    score: ScoreAsked = None,
) -> OneNode:
    """``cursor`` goes on in the list of the edges at ``end``. ``heads`` (SOURCE-TARGET) and
    ``score`` (LAYER.HEAD.TOKEN.SOURCE) fill the forms."""
    row = repository.find_graph(session, reference, *endpoints.WHOLE)
    it, loaded = service.header(session, row), context.graphs.of(row)
    own = service.node(session, row, loaded, node)
    sae, saes = None, service.served(session, row)
    if own.kind == "feature" and 0 <= own.coder < len(saes):
        sae = saes[own.coder]
    lists = []
    for each, says in _ENDS:
        page = endpoints.list_edges(
            session,
            context,
            reference,
            node,
            each,
            _EDGES,
            cursor if each == end else None,
        )
        most = max((abs(edge.weight) for edge in page.items), default=0.0) or 1.0
        lists.append(EdgeList(each, says, page.items, page.next_cursor, most))
    steerable = it.kind == "graph" and _steerable(saes)
    form = heads_form(
        it,
        loaded.graph,
        node,
        [edge for each in lists for edge in each.edges],
        edge=heads,
        score=score,
    )
    return OneNode(
        it=it,
        node=own,
        site=_site(loaded.graph.sites, own.layer),
        sites=loaded.graph.sites,
        token=it.tokens[own.position] if 0 <= own.position < len(it.tokens) else None,
        sae=None if sae is None else sae.name,
        steerable=steerable,
        heads=form if steerable else None,
        lists=lists,
        feature=None if sae is None else _feature(session, context, sae.name, own.latent or 0),
    )


def _site(sites: Sequence[str], layer: int) -> str | None:
    return sites[layer] if 0 <= layer < len(sites) else None


def _feature(session: Session, context: AppContext, sae: str, latent: int) -> FeatureShown | None:
    behind = find_feature(session, sae, latent)
    if behind is None or behind.feature is None:
        return None
    page = page_of(session, context.tokens, behind)
    short = page.model_copy(update={"examples": page.examples[:_EXAMPLES]})
    return shown_feature(short, Drawing(view="wrapped"))
