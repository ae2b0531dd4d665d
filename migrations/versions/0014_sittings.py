"""What people answer when they take the test of detection.

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "sittings",
        sa.Column("sae_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("explanation_id", sa.UUID(), nullable=False),
        sa.Column("feature", sa.Integer(), nullable=False),
        sa.Column("taker", sa.Text(), nullable=False),
        sa.Column("parameters", postgresql.JSONB(), nullable=False),
        sa.Column("questions", postgresql.JSONB(), nullable=False),
        sa.Column(
            "answers", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("context_density", sa.Float(53), nullable=True),
        sa.Column("score_id", sa.UUID(), nullable=True),
        _moment("created_at"),
        _moment("changed_at"),
        sa.ForeignKeyConstraint(
            ["sae_id", "explanation_id"],
            ["explanations.sae_id", "explanations.id"],
            name="fk_sittings_explanation",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("sae_id", "id", name="pk_sittings"),
    )
    op.create_index("ix_sittings_id", "sittings", ["id"])
    op.create_index("ix_sittings_taker", "sittings", ["sae_id", "feature", "taker"])
    op.create_index(
        "uq_sittings_open",
        "sittings",
        ["sae_id", "explanation_id", "taker"],
        unique=True,
        postgresql_where=sa.text("score_id IS NULL"),
    )


def _moment(name: str) -> sa.Column[Any]:
    return sa.Column(
        name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
    )


def downgrade() -> None:
    op.drop_table("sittings")
