"""Tables of the pipeline that asks a judge: what is to do, what was asked, what it cost."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, Index, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from service.database.tables import Base, id_column, now_column, of_explanation


class WorkItem(Base):
    """One feature of an explain or score run: any worker of the queue may do it.

    States: todo, leased, done, failed; skipped where equal work was done before.  A worker that has
    not renewed its lease in time has lost the item, and can store nothing for it any more.
    """

    __tablename__ = "work_items"
    run_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True
    )
    feature: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(server_default="todo")
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    sae_id: Mapped[uuid.UUID | None]
    """Of the explanations."""
    explanation_id: Mapped[uuid.UUID | None]
    """What is scored."""
    borrowed_id: Mapped[uuid.UUID | None]
    """Another feature's explanation, for the shuffled baseline."""
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[dt.datetime | None]
    error: Mapped[str | None]
    __table_args__ = (
        Index("ix_work_items_open", "run_id", "feature", postgresql_where=text("state = 'todo'")),
        Index(
            "ix_work_items_leased",
            "run_id",
            "lease_expires_at",
            postgresql_where=text("state = 'leased'"),
        ),
        of_explanation("work_items"),
        ForeignKeyConstraint(
            ["sae_id", "borrowed_id"],
            ["explanations.sae_id", "explanations.id"],
            name="fk_work_items_borrowed",
            ondelete="SET NULL (borrowed_id)",
        ),
    )


class JudgeCall(Base):
    """The ledger: one row per HTTP request to a judge, written before the request is sent.

    ``sent`` is its state until the answer is there; it stays so when the worker dies meanwhile, and
    such a call counts with the most it can have cost.
    """

    __tablename__ = "judge_calls"
    id: Mapped[uuid.UUID] = id_column()
    """Sent along as ``X-Request-Id``."""
    run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("runs.id", ondelete="SET NULL"))
    feature: Mapped[int | None]
    purpose: Mapped[str]
    """An explainer's or scorer's name, or ``probe``."""
    model: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="sent")
    """``sent``, ``answered`` or ``failed``."""
    status: Mapped[int | None] = mapped_column(SmallInteger)
    """HTTP status; None where no answer came."""
    prompt_tokens: Mapped[int] = mapped_column(server_default="0")
    cached_tokens: Mapped[int] = mapped_column(server_default="0")
    completion_tokens: Mapped[int] = mapped_column(server_default="0")
    cost: Mapped[float] = mapped_column(server_default="0")
    """In the currency of the configured prices; while ``sent`` the most it can come to."""
    sent_at: Mapped[dt.datetime] = now_column()
    ended_at: Mapped[dt.datetime | None]
    __table_args__ = (Index("ix_judge_calls_run", "run_id", "feature"),)


class Spend(Base):
    """What a run has spent on its judge: the sums over its calls, kept for the budget."""

    __tablename__ = "judge_spend"
    run_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True
    )
    calls: Mapped[int] = mapped_column(BigInteger, server_default="0")
    prompt_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    cached_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    completion_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    cost: Mapped[float] = mapped_column(server_default="0")
    """Of the calls that have ended."""
    reserved: Mapped[float] = mapped_column(server_default="0")
    """The most that calls can come to whose end is not entered: they are under way, or their worker
    died."""


class JudgeAnswer(Base):
    """Answers that were of use, by what was asked: the same question costs nothing again."""

    __tablename__ = "judge_answers"
    key: Mapped[str] = mapped_column(primary_key=True)
    """Hash of address, model, parameters, schema and messages."""
    answer: Mapped[dict[str, Any]]
    created_at: Mapped[dt.datetime] = now_column()


class JudgeTest(Base):
    """What a judge came to in one role, asked questions whose answers are known."""

    __tablename__ = "judge_tests"
    key: Mapped[str] = mapped_column(primary_key=True)
    """Hash of role, endpoint, model, sampling, prompt and questions."""
    role: Mapped[str]
    """``explaining`` or ``detecting``."""
    endpoint: Mapped[str]
    """Address without credentials, or ``packaged``."""
    model: Mapped[str]
    prompt: Mapped[str]
    """Name and version."""
    result: Mapped[dict[str, Any]]
    """``RoleTest.as_dict``."""
    run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("runs.id", ondelete="SET NULL"))
    """Whose ledger its calls are in; None for a test by hand."""
    created_at: Mapped[dt.datetime] = now_column()
    __table_args__ = (Index("ix_judge_tests_of", "endpoint", "model", "role", "created_at"),)
