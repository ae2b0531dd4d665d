"""Graphs made into rows: traced by a run, or uploaded."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from monosemy.errors import DataError
from monosemy.graphs.firing import Firing
from monosemy.graphs.graph import Graph
from monosemy.graphs.store import graph_bytes
from monosemy.graphs.whole_influence import WholeInfluence
from monosemy.interchange.attribution_graph import GraphMarks
from monosemy.specs.feature_circuits import FeatureCircuitSpec, FeatureCircuitSummary
from monosemy.specs.graphs import GraphCheck, GraphSae, GraphSpec, GraphSummary
from monosemy.specs.names import nameable
from monosemy.specs.rest.graphs import GraphKind
from service.database.graph_tables import StoredGraph
from service.database.storable import storable
from service.graphs.repository import check_free, free_name, put_graph

MOST_BYTES = 256 * 2**20
"""Of a stored graph."""
_WITHOUT = str.maketrans(dict.fromkeys("/\\?#%", " "))
_LONGEST_MADE = 80
"""Bytes of a name that nobody gave."""


class GraphDetails(BaseModel):
    """What the row of a graph holds besides what lists show."""

    spec: GraphSpec | None = None
    check: GraphCheck | None = None
    feature_circuit_spec: FeatureCircuitSpec | None = None
    feature_circuit: FeatureCircuitSummary | None = None
    labels: dict[int, str] = Field(default_factory=dict)
    """What an uploaded file calls its features, by node."""
    marks: GraphMarks = GraphMarks()
    """Pins and supernodes of an uploaded file."""
    notes: list[str] = Field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class NewGraph:
    """A graph to be stored."""

    id: uuid.UUID
    model: str
    prompt: str
    graph: Graph
    whole: WholeInfluence
    summary: GraphSummary
    firing: Firing | None = None
    name: str | None = None
    run_id: uuid.UUID | None = None
    place: int = 0
    prompts: int = 1
    in_set: str | None = None
    saes: list[GraphSae] = field(default_factory=list)
    kind: GraphKind = "graph"
    uploaded: bool = False
    details: GraphDetails = field(default_factory=GraphDetails)


def keep_graph(session: Session, new: NewGraph, owner: uuid.UUID | None) -> StoredGraph:
    """Stores a graph; one without a name gets one that is free.

    ``NameTaken`` where another graph has its name; ``DataError`` for one that is too large.
    """
    data = graph_bytes(new.graph)
    if len(data) > MOST_BYTES:
        raise DataError(
            f"The graph takes {len(data) / 2**20:.0f} MB, more than {MOST_BYTES // 2**20} are kept "
            "of one.",
            "Keep less of it: pruning.nodes, pruning.edges, pruning.most_nodes; or nodes and edges"
            " of a feature circuit.",
        )
    if new.name is not None:
        check_free(session, new.name, new.id)
    name = new.name or free_name(session, new.id, name_of(new.prompt))
    details = new.details.model_copy(update={"check": new.summary.check})
    row = StoredGraph(
        id=new.id,
        name=name,
        run_id=new.run_id,
        place=new.place,
        prompts=new.prompts,
        model=storable(new.model),
        in_set=new.in_set,
        prompt=storable(new.prompt),
        kind=new.kind,
        uploaded=new.uploaded,
        checked=new.summary.check is not None or new.details.feature_circuit is not None,
        saes=storable([each.model_dump(mode="json") for each in new.saes]),
        summary=storable(new.summary.model_dump(mode="json", exclude={"check"})),
        details=storable(details.model_dump(mode="json")),
        graph=data,
        whole=new.whole.to_bytes(),
        firing=None if new.firing is None else new.firing.to_bytes(),
        created_by=owner,
    )
    put_graph(session, row)
    return row


def details_of(row: StoredGraph) -> GraphDetails:
    return GraphDetails.model_validate(row.details)


def name_of(prompt: str) -> str:
    """A name made of a prompt: its last words, as far as names may have them."""
    visible = "".join(each if each.isprintable() else " " for each in prompt)
    words = visible.translate(_WITHOUT).split()
    kept: list[str] = []
    for word in reversed(words):
        if len(" ".join([word, *kept]).encode(errors="replace")) > _LONGEST_MADE:
            break
        kept.insert(0, word)
    try:
        return nameable(" ".join(kept).lstrip(".-~ "))
    except ValueError:
        return "graph"
