"""Tables of what people gather: lists of features, and tags."""

from __future__ import annotations

import datetime as dt
import uuid

from sqlalchemy import ForeignKey, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from service.database.tables import Base, owner_column


class FeatureList(Base):
    """Features that somebody gathered, in an order of their own."""

    __tablename__ = "feature_lists"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str] = mapped_column(unique=True)
    description: Mapped[str]
    owner: Mapped[str]
    """Id of the API key, or ``local`` in open mode."""
    revision: Mapped[int] = mapped_column(server_default="1")
    """Counts the changes, of the entries too."""
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    changed_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    __table_args__ = (Index("ix_feature_lists_created", "created_at", "id"),)


class ListEntry(Base):
    """One feature in a list.  It refers to the SAE, not to the feature's row: an SAE that is
    indexed anew gets new rows, and its features stay in the lists."""

    __tablename__ = "feature_list_entries"
    list_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("feature_lists.id", ondelete="CASCADE"), primary_key=True
    )
    sae_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("saes.id", ondelete="CASCADE"), primary_key=True
    )
    feature: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str]
    position: Mapped[int]
    """Ascending; no two in a list are equal.  Whoever writes it holds the list's row locked."""
    __table_args__ = (
        Index("ix_feature_list_entries_order", "list_id", "position"),
        Index("ix_feature_list_entries_sae", "sae_id"),
    )


class FeatureTag(Base):
    """A word that a feature carries."""

    __tablename__ = "feature_tags"
    sae_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("saes.id", ondelete="CASCADE"), primary_key=True
    )
    feature: Mapped[int] = mapped_column(primary_key=True)
    tag: Mapped[str] = mapped_column(primary_key=True)
    """As ``monosemy.specs.tags.normalised`` writes it."""
    created_by: Mapped[uuid.UUID | None] = owner_column()
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    __table_args__ = (Index("ix_feature_tags_tag", "tag", "sae_id", "feature"),)
