"""The table of what benchmarks find."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from service.database.tables import Base, owner_column


class StoredBenchmark(Base):
    """One SAE by one protocol; a newer result of other weights replaces it."""

    __tablename__ = "benchmark_results"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    sae_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("saes.id", ondelete="CASCADE"))
    protocol: Mapped[str]
    """``BenchmarkAbout.protocol``: rows of one can be set beside each other."""
    sae_digest: Mapped[str]
    """Of the weights that were measured."""
    benchmark: Mapped[str]
    model: Mapped[str]
    site: Mapped[str]
    figures: Mapped[list[Any]]
    """``BenchmarkFigure`` of the headline metric, the SAE's own first."""
    result: Mapped[dict[str, Any]] = mapped_column(deferred=True)
    """``BenchmarkResult``."""
    run_id: Mapped[uuid.UUID]
    """The run that measured it, which may be gone."""
    created_by: Mapped[uuid.UUID | None] = owner_column()
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        UniqueConstraint("sae_id", "protocol", name="uq_benchmark_results_of"),
        Index("ix_benchmark_results_protocol", "protocol", "created_at"),
        Index("ix_benchmark_results_created", "created_at", "id"),
    )
