"""The table of what task runs find."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import Index, func
from sqlalchemy.dialects.postgresql import ARRAY, UUID
from sqlalchemy.orm import Mapped, mapped_column

from service.database.tables import Base, owner_column


class Task(Base):
    """A supervised dictionary beside SAEs and baselines on one task; it outlives its run."""

    __tablename__ = "tasks"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    """That of the run which made it."""
    sae_ids: Mapped[list[uuid.UUID]] = mapped_column(ARRAY(UUID(as_uuid=True)))
    """The SAEs that were tried, some of which may be gone."""
    summary: Mapped[dict[str, Any]]
    """``TaskSummary``."""
    result: Mapped[dict[str, Any]] = mapped_column(deferred=True)
    """``TaskResult``."""
    created_by: Mapped[uuid.UUID | None] = owner_column()
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    __table_args__ = (Index("ix_tasks_created", "created_at", "id"),)
