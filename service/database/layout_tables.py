"""The table of layouts of SAEs."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from service.database.tables import Base, now_column


class SaeLayout(Base):
    """Where the features of an SAE lie in two dimensions; it goes with the SAE."""

    __tablename__ = "sae_layouts"
    sae_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("saes.id", ondelete="CASCADE"), primary_key=True
    )
    run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("runs.id", ondelete="SET NULL"))
    """The run that made it."""
    summary: Mapped[dict[str, Any]]
    """``LayoutSummary``; its ``weights`` is the digest of the SAE that it is of."""
    files: Mapped[str]
    """``file_marks`` of the SAE's folder then: as long as they hold, no file need be read."""
    places: Mapped[bytes] = mapped_column(deferred=True)
    """float32, little-endian: x of every latent, then y; NaN for those that are left out."""
    created_at: Mapped[dt.datetime] = now_column()
