"""The table of attribution graphs."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from service.database.tables import Base, owner_column


class StoredGraph(Base):
    """A graph of a prompt, or of a feature circuit; it outlives its run and its SAEs."""

    __tablename__ = "graphs"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    """That of the run which traced it alone, or its own."""
    run_id: Mapped[uuid.UUID | None]
    """The run that traced it, which may be gone; None: it was uploaded."""
    place: Mapped[int] = mapped_column(server_default="0")
    """Of its prompt among those of the run."""
    prompts: Mapped[int] = mapped_column(server_default="1")
    """Of the run."""
    name: Mapped[str]
    model: Mapped[str]
    """The host model's name, or what an uploaded file calls ``scan``."""
    in_set: Mapped[str | None]
    """The set of its SAEs, where its run named one."""
    prompt: Mapped[str]
    kind: Mapped[str] = mapped_column(server_default=text("'graph'"))
    """The kind of run that makes such ones: ``graph`` or ``feature_circuit``."""
    uploaded: Mapped[bool]
    checked: Mapped[bool]
    """Whether it was checked by ablation."""
    saes: Mapped[list[Any]]
    """``GraphSae``, in the order of the nodes' ``coder``."""
    summary: Mapped[dict[str, Any]]
    """``GraphSummary``, its check aside."""
    details: Mapped[dict[str, Any]] = mapped_column(deferred=True)
    """``GraphDetails``."""
    graph: Mapped[bytes] = mapped_column(deferred=True)
    """The pruned graph, as ``monosemy.graphs.store`` writes it."""
    whole: Mapped[bytes] = mapped_column(deferred=True)
    """``WholeInfluence``: what the nodes of the whole graph carried."""
    firing: Mapped[bytes | None] = mapped_column(deferred=True)
    """``Firing``: all features that are active on the prompt; None of graphs that were stored
    before that was kept, and of uploaded ones."""
    created_by: Mapped[uuid.UUID | None] = owner_column()
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        UniqueConstraint("name"),
        Index("ix_graphs_created", "created_at", "id"),
        Index("ix_graphs_model", "model"),
        Index("ix_graphs_run", "run_id", "place"),
    )
