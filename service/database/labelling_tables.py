"""Tables of what people answer, text by text."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from service.database.tables import Base, id_column, now_column, of_explanation


class Sitting(Base):
    """A person's detection test of an explanation (``monosemy.interp.sitting``)."""

    __tablename__ = "sittings"
    sae_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = id_column()
    explanation_id: Mapped[uuid.UUID]
    feature: Mapped[int]
    taker: Mapped[str]
    """Id of the API key, or ``local`` in open mode."""
    parameters: Mapped[dict[str, Any]]
    """positives, negatives, seed, text_id; ``like``: the score whose texts they are, if any."""
    questions: Mapped[list[Any]]
    """In the order in which they are asked: ``text`` and the fields of a judgement, unanswered."""
    answers: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    """By the question's number; null where it was skipped."""
    context_density: Mapped[float | None]
    score_id: Mapped[uuid.UUID | None]
    """Once it has ended."""
    created_at: Mapped[dt.datetime] = now_column()
    changed_at: Mapped[dt.datetime] = now_column()
    __table_args__ = (
        of_explanation("sittings"),
        Index("ix_sittings_id", "id"),
        Index("ix_sittings_taker", "sae_id", "feature", "taker"),
        Index(
            "uq_sittings_open",
            "sae_id",
            "explanation_id",
            "taker",
            unique=True,
            postgresql_where=text("score_id IS NULL"),
        ),
    )
