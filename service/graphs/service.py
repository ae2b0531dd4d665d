"""Graphs put into what the API answers."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from monosemy.graphs.drawing import draw
from monosemy.graphs.graph import Graph, NodeKind
from monosemy.graphs.listing import (
    End,
    branch_name,
    list_edges,
    list_nodes,
    node_labels,
    one_node,
    site_labels,
)
from monosemy.specs.graphs import GraphNode, GraphSae, GraphSummary
from monosemy.specs.rest.graphs import (
    GraphDrawing,
    GraphEdgeView,
    GraphHeader,
    GraphView,
    Supernode,
)
from service.database.graph_tables import StoredGraph
from service.database.tables import Sae
from service.features.repository import labels_of
from service.graphs.loaded import LoadedGraph
from service.graphs.storing import details_of
from service.kit.errors import InvalidRequest, NotFound


@dataclass(frozen=True)
class NodeFilter:
    """Which nodes a listing has."""

    kind: str | None = None
    layer: int | None = None
    position: int | None = None
    search: str = ""


def headers(session: Session, rows: Sequence[StoredGraph]) -> list[GraphHeader]:
    names = _names(session, (each for row in rows for each in saes_of(row)))
    return [GraphHeader(**_facts(row, names)) for row in rows]


def header(session: Session, row: StoredGraph) -> GraphHeader:
    (made,) = headers(session, [row])
    return made


def view(session: Session, row: StoredGraph, loaded: LoadedGraph) -> GraphView:
    """Of a row with its details, graph and whole."""
    details, summary = details_of(row), GraphSummary.model_validate(row.summary)
    return GraphView(
        **_facts(row, _names(session, saes_of(row))),
        spec=details.spec,
        feature_circuit_spec=details.feature_circuit_spec,
        feature_circuit=details.feature_circuit,
        sites=list(loaded.graph.sites),
        forecast=summary.forecast,
        traced=summary.traced,
        untraced=summary.untraced,
        rounding=summary.rounding,
        least_row_mass=summary.least_row_mass,
        check=details.check,
        token_ids=list(loaded.graph.ids),
        served=[sae is not None for sae in served(session, row)],
        about=dict(loaded.graph.about),
        notes=details.notes,
        pinned=list(details.marks.pinned),
        supernodes=[Supernode(name=n, nodes=list(m)) for n, m in details.marks.supernodes],
    )


def saes_of(row: StoredGraph) -> list[GraphSae]:
    return [GraphSae.model_validate(each) for each in row.saes]


def _facts(row: StoredGraph, names: dict[str, str]) -> dict[str, object]:
    summary = GraphSummary.model_validate(row.summary)
    return {
        "id": row.id,
        "name": row.name,
        "kind": row.kind,
        "model": row.model,
        "set": row.in_set,
        "saes": [names.get(each.id, each.name) for each in saes_of(row)],
        "prompt": row.prompt,
        "created_at": row.created_at,
        "run": row.run_id,
        "place": row.place,
        "prompts": row.prompts,
        "checked": row.checked,
        **{
            name: getattr(summary, name)
            for name in ("tokens", "goals", "nodes", "edges", "whole", "pruned")
        },
    }


def _names(session: Session, saes: Iterable[GraphSae]) -> dict[str, str]:
    """What SAEs are called now, by their ids; of those that are there."""
    ids = set()
    for each in saes:
        with suppress(ValueError):
            ids.add(uuid.UUID(each.id))
    if not ids:
        return {}
    query = select(Sae.id, Sae.name).where(Sae.id.in_(ids))
    return {str(id): name for id, name in session.execute(query)}


def served(session: Session, row: StoredGraph) -> list[Sae | None]:
    """Of each SAE of the graph its row, where it is there with the weights that the graph was made
    with."""
    rows = []
    for each in saes_of(row):
        sae = None
        with suppress(ValueError):
            sae = session.get(Sae, uuid.UUID(each.id))
        if sae is not None:
            digest = (sae.provenance.get("weights") or {}).get("digest", each.digest)
            sae = sae if digest == each.digest else None
        rows.append(sae)
    return rows


def labels(
    session: Session,
    row: StoredGraph,
    loaded: LoadedGraph,
    nodes: Collection[int] | None = None,
) -> dict[int, str]:
    """What features are called, by node: as their pages are headed, or as an uploaded file has it;
    those of feature circuits that have no heading, by SAE and latent.

    ``nodes``: only these; None: all.
    """
    if row.uploaded:
        return details_of(row).labels
    columns = loaded.graph.nodes
    at = np.flatnonzero(columns.kind == NodeKind.feature)
    if nodes is not None:
        at = at[np.isin(at, list(nodes))]
    saes = saes_of(row)
    names = _names(session, saes)
    called = site_labels(loaded.graph, [names.get(each.id, each.name) for each in saes])
    for coder, sae in enumerate(served(session, row)):
        own = at[columns.coder[at] == coder]
        if sae is None or not len(own):
            continue
        latents = columns.number[own].tolist()
        by_latent = labels_of(session, sae.id, sorted({*latents}))
        pairs = zip(own.tolist(), latents, strict=True)
        called |= {node: by_latent[latent] for node, latent in pairs if latent in by_latent}
    return called


def check_places(graph: Graph, layer: int | None, position: int | None) -> None:
    """422 for a layer and a token that the graph does not have; -1 is what stands in none."""
    last = int(graph.nodes.layer.max(initial=-1))
    faults = []
    if layer is not None and layer > last:
        faults.append(("layer", f"its nodes are in layers 0 to {last}, not {layer}"))
    if position is not None and position >= len(graph.texts):
        faults.append(
            ("position", f"its tokens are counted 0 to {len(graph.texts) - 1}, not {position}")
        )
    if faults:
        raise InvalidRequest(faults)


def nodes(
    session: Session,
    row: StoredGraph,
    loaded: LoadedGraph,
    wanted: NodeFilter,
    first: int | None,
    count: int,
) -> list[tuple[int, GraphNode]]:
    """(place in the listing, node), from place ``first`` on."""
    start = first or 0
    known = labels(session, row, loaded) if wanted.search else {}
    _, listed = list_nodes(
        loaded.graph,
        known,
        None if wanted.kind is None else [NodeKind[wanted.kind]],
        wanted.layer,
        wanted.position,
        wanted.search,
        start,
        count,
        loaded.flow,
    )
    if not wanted.search:
        known = labels(session, row, loaded, {each.node for each in listed})
        listed = [
            each.model_copy(update={"label": known.get(each.node, each.label)}) for each in listed
        ]
    return list(enumerate(listed, start))


def node(session: Session, row: StoredGraph, loaded: LoadedGraph, number: int) -> GraphNode:
    """``NotFound`` for a node that is not there."""
    label = labels(session, row, loaded, {number}).get(number)
    try:
        return one_node(loaded.graph, number, label, loaded.flow)
    except IndexError:
        raise _no_node(loaded, number) from None


def _no_node(loaded: LoadedGraph, number: int) -> NotFound:
    return NotFound("node", number, f"The graph has {len(loaded.graph.nodes)} nodes, from 0.")


def edges(
    session: Session,
    row: StoredGraph,
    loaded: LoadedGraph,
    node: int,
    end: End,
    first: int | None,
    count: int,
) -> list[tuple[int, GraphEdgeView]]:
    """(place in the listing, edge), from place ``first`` on; ``NotFound`` for a node that is not
    there."""
    start = first or 0
    try:
        _, listed = list_edges(loaded.graph, node, end, start, count)
    except IndexError:
        raise _no_node(loaded, node) from None
    others = [each.source if end == "in" else each.target for each in listed]
    called = node_labels(loaded.graph, labels(session, row, loaded, {*others}))
    columns = loaded.graph.nodes
    views = []
    for place, (each, other) in enumerate(zip(listed, others, strict=True), start):
        kind = NodeKind(columns.kind[other])
        view = GraphEdgeView(
            **dict(each),
            other=other,
            label=called[other],
            kind=kind.name,
            layer=int(columns.layer[other]),
            branch=branch_name(loaded.graph, kind.value, int(columns.branch[other])),
            position=int(columns.position[other]),
        )
        views.append((place, view))
    return views


def drawing(
    session: Session,
    row: StoredGraph,
    loaded: LoadedGraph,
    node_share: float | None,
    edge_share: float | None,
) -> GraphDrawing:
    """Shares that are not given: as it is stored."""
    return draw(
        loaded.graph,
        loaded.whole,
        1.0 if node_share is None else node_share,
        1.0 if edge_share is None else edge_share,
        labels(session, row, loaded),
    )
