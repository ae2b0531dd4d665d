"""What features of two SAEs have to do with each other.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "comparisons",
        sa.Column("id", sa.UUID(), primary_key=True),
        sa.Column("sae_a", sa.UUID(), sa.ForeignKey("saes.id", ondelete="CASCADE"), nullable=False),
        sa.Column("sae_b", sa.UUID(), sa.ForeignKey("saes.id", ondelete="CASCADE"), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("summary", postgresql.JSONB(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
        sa.UniqueConstraint("sae_a", "sae_b", "by", "method", name="uq_comparisons_of"),
    )
    op.create_index("ix_comparisons_b", "comparisons", ["sae_b"])
    op.create_index("ix_comparisons_created", "comparisons", ["created_at", "id"])
    op.create_table(
        "feature_links",
        sa.Column(
            "comparison_id",
            sa.UUID(),
            sa.ForeignKey("comparisons.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("feature_a", sa.Integer(), primary_key=True),
        sa.Column("feature_b", sa.Integer(), primary_key=True),
        sa.Column("value", sa.REAL(), nullable=False),
        sa.Column("matched", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_feature_links_b", "feature_links", ["comparison_id", "feature_b"])
    op.create_index(
        "ix_feature_links_value",
        "feature_links",
        ["comparison_id", sa.text("value DESC"), "feature_a", "feature_b"],
    )


def downgrade() -> None:
    op.drop_table("feature_links")
    op.drop_table("comparisons")
