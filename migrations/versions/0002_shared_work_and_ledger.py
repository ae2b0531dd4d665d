"""Features of a run as work that workers share, and the ledger of calls to the judge.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None

NOW = sa.text("now()")


def upgrade() -> None:
    _create_work_items()
    _create_judge_calls()
    op.create_table(
        "judge_spend",
        sa.Column("run_id", sa.UUID(), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)
            for name in ("calls", "prompt_tokens", "cached_tokens", "completion_tokens")
        ),
        sa.Column("cost", sa.Float(53), server_default="0", nullable=False),
        sa.Column("reserved", sa.Float(53), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_judge_spend_run_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", name="pk_judge_spend"),
    )
    op.create_table(
        "judge_answers",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("answer", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_judge_answers"),
    )


def downgrade() -> None:
    op.drop_table("judge_answers")
    op.drop_table("judge_spend")
    op.drop_table("judge_calls")
    op.drop_table("work_items")


def _create_work_items() -> None:
    op.create_table(
        "work_items",
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("feature", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), server_default="todo", nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("explanation_id", sa.UUID(), nullable=True),
        sa.Column("borrowed_id", sa.UUID(), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_work_items_run_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["explanation_id"],
            ["explanations.id"],
            name="fk_work_items_explanation_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["borrowed_id"],
            ["explanations.id"],
            name="fk_work_items_borrowed_id",
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("run_id", "feature", name="pk_work_items"),
    )
    op.create_index(
        "ix_work_items_open",
        "work_items",
        ["run_id", "feature"],
        postgresql_where=sa.text("state = 'todo'"),
    )
    op.create_index(
        "ix_work_items_leased",
        "work_items",
        ["run_id", "lease_expires_at"],
        postgresql_where=sa.text("state = 'leased'"),
    )


def _create_judge_calls() -> None:
    op.create_table(
        "judge_calls",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=True),
        sa.Column("feature", sa.Integer(), nullable=True),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="sent", nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        *(
            sa.Column(name, sa.Integer(), server_default="0", nullable=False)
            for name in ("prompt_tokens", "cached_tokens", "completion_tokens")
        ),
        sa.Column("cost", sa.Float(53), server_default="0", nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_judge_calls_run_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_judge_calls"),
    )
    op.create_index("ix_judge_calls_run", "judge_calls", ["run_id", "feature"])
