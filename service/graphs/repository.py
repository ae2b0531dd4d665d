"""All SQL on graphs; nothing here commits."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session, undefer

from service.database.graph_tables import StoredGraph
from service.kit.errors import Listing, NameTaken
from service.kit.free_names import first_free
from service.kit.pagination import TimeKey, newest_first
from service.kit.references import row_of

_NAMES_LOCK = 0x6AF5  # any number: ours among the database's advisory locks


def check_free(session: Session, name: str, id: uuid.UUID | None = None) -> None:
    """``NameTaken`` where another graph than ``id`` has this name."""
    query = select(StoredGraph.id).where(StoredGraph.name == name, StoredGraph.id != id)
    if session.scalar(query) is not None:
        raise NameTaken(
            f"There is a graph named '{name}' already.", "Take another name, or delete that one."
        )


def free_name(session: Session, id: uuid.UUID, wanted: str) -> str:
    """``wanted``, or ``wanted-2``, ``-3``, ... if another graph has it; reserved until commit."""
    session.execute(select(func.pg_advisory_xact_lock(_NAMES_LOCK)))
    like = StoredGraph.name.startswith(wanted, autoescape=True)
    taken = set(session.scalars(select(StoredGraph.name).where(like, StoredGraph.id != id)))
    return first_free(wanted, taken)


def put_graph(session: Session, row: StoredGraph) -> None:
    """In place of what an earlier attempt of the same run stored."""
    delete_graph(session, row.id)
    session.add(row)
    session.flush()


def list_graphs(
    session: Session,
    kind: str | None,
    model: str | None,
    in_set: str | None,
    run: uuid.UUID | None,
    words: Sequence[str],
    before: TimeKey | None,
    limit: int,
) -> Sequence[StoredGraph]:
    """Newest first; ``words``: those whose prompts hold all of them, in either case."""
    query = select(StoredGraph)
    if kind is not None:
        query = query.where(StoredGraph.kind == kind)
    if model is not None:
        query = query.where(StoredGraph.model == model)
    if in_set is not None:
        query = query.where(StoredGraph.in_set == in_set)
    if run is not None:
        query = query.where(StoredGraph.run_id == run)
    for word in words:
        query = query.where(StoredGraph.prompt.icontains(word, autoescape=True))
    return session.scalars(newest_first(query, StoredGraph, before, limit)).all()


def find_graph(
    session: Session,
    reference: str,
    *also: InstrumentedAttribute[object],
    only: bool = False,
) -> StoredGraph:
    """By id, name or ``latest``, with the deferred columns ``also``; raises as ``row_of``, which
    says what ``only`` is."""
    listing, options = Listing.GRAPHS, [undefer(each) for each in also]
    return row_of(
        session, StoredGraph, reference, "graph", listing, StoredGraph.name, only, options
    )


def graphs_of_run(
    session: Session, run: uuid.UUID, *also: InstrumentedAttribute[object]
) -> Sequence[StoredGraph]:
    """In the order of its prompts, with the deferred columns ``also``."""
    query = select(StoredGraph).options(*(undefer(each) for each in also))
    return session.scalars(
        query.where(StoredGraph.run_id == run).order_by(StoredGraph.place, StoredGraph.id)
    ).all()


def delete_graph(session: Session, id: uuid.UUID) -> None:
    session.execute(delete(StoredGraph).where(StoredGraph.id == id))


def uploaded_by(session: Session, key: uuid.UUID) -> tuple[int, int]:
    """(graphs, bytes) that an API key has uploaded."""
    size = func.coalesce(func.sum(func.octet_length(StoredGraph.graph)), 0)
    query = select(func.count(), size).where(
        StoredGraph.created_by == key, StoredGraph.uploaded.is_(True)
    )
    count, total = session.execute(query).one()
    return int(count), int(total)
