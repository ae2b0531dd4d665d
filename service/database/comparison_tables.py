"""Tables of what features of two SAEs have to do with each other."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import REAL, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from service.database.tables import Base, owner_column


class Comparison(Base):
    """Two SAEs compared in one way; the newest replaces what the same API key had there."""

    __tablename__ = "comparisons"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    """That of the run which made it."""
    sae_a: Mapped[uuid.UUID] = mapped_column(ForeignKey("saes.id", ondelete="CASCADE"))
    sae_b: Mapped[uuid.UUID] = mapped_column(ForeignKey("saes.id", ondelete="CASCADE"))
    by: Mapped[str]
    """``decoder``, ``tokens`` or ``explanations``."""
    method: Mapped[str]
    summary: Mapped[dict[str, Any]]
    created_by: Mapped[uuid.UUID | None] = owner_column()
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        UniqueConstraint("sae_a", "sae_b", "by", "method", "created_by", name="uq_comparisons_of"),
        Index("ix_comparisons_b", "sae_b"),
        Index("ix_comparisons_created", "created_at", "id"),
    )


class FeatureLink(Base):
    """A feature of one SAE and one of the other, of which one is among the other's nearest."""

    __tablename__ = "feature_links"
    comparison_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("comparisons.id", ondelete="CASCADE"), primary_key=True
    )
    feature_a: Mapped[int] = mapped_column(primary_key=True)
    feature_b: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[float] = mapped_column(REAL)
    matched: Mapped[bool]
    """Partners, by the comparison's method."""
    __table_args__ = (
        Index("ix_feature_links_b", "comparison_id", "feature_b"),
        Index(
            "ix_feature_links_value", "comparison_id", text("value DESC"), "feature_a", "feature_b"
        ),
    )
