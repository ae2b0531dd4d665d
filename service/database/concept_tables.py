"""The table of concepts."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from service.database.tables import Base, owner_column


class Concept(Base):
    """A concept of an SAE; it goes with the SAE, and outlives its run."""

    __tablename__ = "concepts"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    """That of the run which made it."""
    name: Mapped[str]
    sae_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("saes.id", ondelete="CASCADE"))
    summary: Mapped[dict[str, Any]]
    """``ConceptSummary``."""
    result: Mapped[dict[str, Any]] = mapped_column(deferred=True)
    """``ConceptResult``."""
    created_by: Mapped[uuid.UUID | None] = owner_column()
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        UniqueConstraint("name"),
        Index("ix_concepts_created", "created_at", "id"),
        Index("ix_concepts_sae", "sae_id"),
    )
