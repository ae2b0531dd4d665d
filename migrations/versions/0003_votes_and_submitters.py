"""Votes on explanations, and which API key submitted a run.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None

NOW = sa.text("now()")


def upgrade() -> None:
    op.create_table(
        "explanation_votes",
        sa.Column("explanation_id", sa.UUID(), nullable=False),
        sa.Column("voter", sa.Text(), nullable=False),
        sa.Column("value", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["explanation_id"],
            ["explanations.id"],
            name="fk_explanation_votes_explanation_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("explanation_id", "voter", name="pk_explanation_votes"),
    )
    op.add_column("runs", sa.Column("created_by", sa.UUID(), nullable=True))
    op.create_foreign_key(
        "fk_runs_created_by", "runs", "api_keys", ["created_by"], ["id"], ondelete="SET NULL"
    )


def downgrade() -> None:
    op.drop_constraint("fk_runs_created_by", "runs", type_="foreignkey")
    op.drop_column("runs", "created_by")
    op.drop_table("explanation_votes")
