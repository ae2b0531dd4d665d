"""The tables of surveys of attention SAEs."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from service.database.tables import Base, now_column


class SaeAttention(Base):
    """What a survey found of the heads behind an SAE; it goes with the SAE."""

    __tablename__ = "sae_attention"
    sae_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("saes.id", ondelete="CASCADE"), primary_key=True
    )
    run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("runs.id", ondelete="SET NULL"))
    """The run that made it."""
    summary: Mapped[dict[str, Any]]
    """``AttentionSummary``; its ``weights`` is the digest of the SAE that it is of."""
    files: Mapped[str]
    """``file_marks`` of the SAE's folder then: as long as they hold, no file need be read."""
    created_at: Mapped[dt.datetime] = now_column()


class FeatureSurvey(Base):
    """What it found of one feature."""

    __tablename__ = "feature_attention"
    __table_args__ = (
        Index("ix_feature_attention_head", "sae_id", "head"),
        Index("ix_feature_attention_family", "sae_id", "family"),
    )
    sae_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("sae_attention.sae_id", ondelete="CASCADE"), primary_key=True
    )
    feature: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    head: Mapped[int]
    """The head with the largest share of its decoder row."""
    family: Mapped[str]
    found: Mapped[dict[str, Any]]
    """``SurveyedFeature``"""
