"""The table of circuits."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from service.database.tables import Base, now_column, owner_column


class Circuit(Base):
    """Heads of a host model that tell prompts of a task from others, as one run found them."""

    __tablename__ = "circuits"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    """That of the run which found it."""
    name: Mapped[str]
    model: Mapped[str]
    """The host model, as the run's spec names it."""
    task: Mapped[str]
    summary: Mapped[dict[str, Any]]
    """``CircuitSummary``"""
    result: Mapped[dict[str, Any]] = mapped_column(deferred=True)
    """``CircuitResult``, the summary included."""
    created_by: Mapped[uuid.UUID | None] = owner_column()
    created_at: Mapped[dt.datetime] = now_column()
    __table_args__ = (Index("ix_circuits_created", "created_at", "id"),)
