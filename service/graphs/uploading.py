"""Attribution graphs that somebody sends: bounded, read without trust, counted by key."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, replace

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.requests import Request

from monosemy.errors import DataError
from monosemy.graphs.summary import summary_of
from monosemy.graphs.whole_influence import WholeInfluence
from monosemy.interchange.attribution_graph_nodes import GraphFault
from monosemy.interchange.attribution_graph_reading import ImportedGraph, import_graph
from monosemy.interchange.files import parsed
from monosemy.specs.graphs import MOST_PROMPT
from monosemy.specs.names import nameable
from service.database.graph_tables import StoredGraph
from service.database.storable import storable, storable_text
from service.graphs.repository import free_name, uploaded_by
from service.graphs.storing import GraphDetails, NewGraph, keep_graph, name_of
from service.kit.errors import Conflict, InvalidRequest, UnsupportedContent

_LOCK = 0x6AF6  # any number: ours among the database's advisory locks
_LONGEST_SCAN = 400
_LONGEST_LABEL = 1000
_MOST_GOALS = 1000
_SHOWN = 60
"""Characters of a slug that is no name."""


@dataclass(frozen=True)
class Quota:
    """What one key may have uploaded; no limit where keys are not asked for."""

    count: float = math.inf
    total_bytes: float = math.inf


def check_json(request: Request) -> None:
    """``UnsupportedContent`` for a body that says it is something else than JSON."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedContent(
            f"A graph is sent as application/json, not as {kind[:100]!r}.",
            "Send the JSON file itself as the body.",
        )


def graph_of_file(body: bytes) -> NewGraph:
    """The graph in a body, without a name.  ``InvalidRequest`` at the place of what is wrong."""
    try:
        read = import_graph(parsed(body, "The body"))
        _check(read)
        return _new(read)
    except GraphFault as fault:
        raise InvalidRequest([(fault.path, str(fault))]) from None
    except DataError as error:
        raise InvalidRequest([("", str(error))]) from None


def _check(read: ImportedGraph) -> None:
    """What a row, and a page, can hold."""
    if not 0 < len(read.scan) <= _LONGEST_SCAN:
        raise GraphFault("metadata.scan", f"scan has 1 to {_LONGEST_SCAN} characters.")
    if len(read.prompt) > MOST_PROMPT:
        raise GraphFault("metadata.prompt", f"A prompt has at most {MOST_PROMPT} characters.")
    if len(read.graph.goals) > _MOST_GOALS:
        raise GraphFault("nodes", f"A graph has at most {_MOST_GOALS} logits.")


def _new(read: ImportedGraph) -> NewGraph:
    long = sum(len(each) > _LONGEST_LABEL for each in read.labels.values())
    notes = [*read.notes, *([f"{long} labels were cut off."] if long else [])]
    # What others say a graph was made with is kept apart from what is known of ours.
    about = {"file": {"slug": read.slug, "scan": read.scan, "about": dict(read.graph.about)}}
    graph = replace(
        read.graph,
        about=storable(about),
        texts=tuple(map(storable_text, read.graph.texts)),
        goal_labels=tuple(storable_text(each)[:_LONGEST_LABEL] for each in read.graph.goal_labels),
    )
    return NewGraph(
        id=uuid.uuid4(),
        name=None,
        model=read.scan,
        prompt=read.prompt,
        graph=graph,
        whole=WholeInfluence.of(graph),
        summary=summary_of(graph, graph),
        uploaded=True,
        details=GraphDetails(
            labels={
                node: storable_text(text)[:_LONGEST_LABEL] for node, text in read.labels.items()
            },
            marks=read.view,
            notes=notes,
        ),
    )


def keep_uploaded(
    session: Session, new: NewGraph, key: uuid.UUID | None, quota: Quota
) -> StoredGraph:
    """Stores it under its slug where that is free and a name, else says in its notes why not;
    ``Conflict`` where its key has uploaded as many as it may."""
    if key is not None:
        # Two at once must not both be the last that may; until the transaction ends.
        session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        count, size = uploaded_by(session, key)
        if count >= quota.count or size >= quota.total_bytes:
            raise Conflict(
                f"This key has uploaded {count} graphs of {size / 2**20:.0f} MB together, and may "
                "not send more.",
                "Delete some of them.",
                code="too-many-graphs",
                title="Too many graphs",
            )
    try:
        return keep_graph(session, _named(session, new), key)
    except DataError as error:
        raise InvalidRequest([("", str(error))]) from None


def _named(session: Session, new: NewGraph) -> NewGraph:
    """With its slug as its name, or another and a note that says why."""
    slug, why = new.graph.about["file"]["slug"], None
    try:
        wanted = nameable(slug)
    except ValueError as reason:
        wanted, why = name_of(new.prompt), f"is no name here ({reason})"
    name = free_name(session, new.id, wanted)
    if name == slug:
        return replace(new, name=name)
    if why is None:
        why = "is another graph's name" if name != wanted else "is not in Unicode's composed form"
    shown = f"{slug[:_SHOWN]!r}{'...' if len(slug) > _SHOWN else ''}"
    notes = [*new.details.notes, f"The file's slug {shown} {why}: the graph is called {name!r}."]
    details = new.details.model_copy(update={"notes": notes})
    return replace(new, name=name, details=details)
