"""Priorities, limits and pauses of queues, and submissions that are made once.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None

NOW = sa.text("now()")


def upgrade() -> None:
    op.add_column(
        "runs", sa.Column("priority", sa.SmallInteger(), server_default="0", nullable=False)
    )
    op.drop_index("ix_runs_claimable", "runs")
    op.create_index(
        "ix_runs_claimable", "runs", ["queue", "state", sa.text("priority DESC"), "created_at"]
    )
    op.add_column("api_keys", sa.Column("max_running", sa.Integer(), nullable=True))
    op.create_table(
        "queues",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("max_running", sa.Integer(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_queues"),
    )
    op.create_table(
        "submissions",
        sa.Column("submitter", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_submissions_run_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("submitter", "key", name="pk_submissions"),
    )
    op.create_index("ix_submissions_created", "submissions", ["created_at"])


def downgrade() -> None:
    op.drop_table("submissions")
    op.drop_table("queues")
    op.drop_column("api_keys", "max_running")
    op.drop_index("ix_runs_claimable", "runs")
    op.create_index("ix_runs_claimable", "runs", ["queue", "state", "created_at"])
    op.drop_column("runs", "priority")
