"""The table of what an evaluation has measured of a crosscoder's latents."""

from __future__ import annotations

import uuid

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from service.database.tables import Base


class CrosscoderLatent(Base):
    """A latent that fired on held-out text: its class, and whether it only looks exclusive.  It
    goes with its SAE, and is replaced by the next evaluation."""

    __tablename__ = "crosscoder_latents"
    __table_args__ = (Index("ix_crosscoder_latents_class", "sae_id", "latent_class"),)
    sae_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("saes.id", ondelete="CASCADE"), primary_key=True
    )
    feature: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    latent_class: Mapped[str]
    """``LatentClass``, by decoder norms."""
    place: Mapped[str]
    """Where it is strongest."""
    genuine: Mapped[bool | None]
    """Whether both ratios are small at every other place; None unless its class is exclusive."""
    nu_error: Mapped[float | None]
    """The largest over the other places; None where nothing can be said, as for the next."""
    nu_reconstruction: Mapped[float | None]
