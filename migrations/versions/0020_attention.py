"""Surveys of attention SAEs: heads of an SAE, head and family of a feature.

Revision ID: 0020
Revises: 0019
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0020"
down_revision: str | None = "0019"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "sae_attention",
        sa.Column("sae_id", sa.UUID(), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=True),
        sa.Column("summary", postgresql.JSONB(), nullable=False),
        sa.Column("files", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["sae_id"], ["saes.id"], name="fk_sae_attention_sae_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_sae_attention_run_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("sae_id", name="pk_sae_attention"),
    )
    op.create_table(
        "feature_attention",
        sa.Column("sae_id", sa.UUID(), nullable=False),
        sa.Column("feature", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("head", sa.Integer(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("found", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sae_id"],
            ["sae_attention.sae_id"],
            name="fk_feature_attention_sae_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("sae_id", "feature", name="pk_feature_attention"),
    )
    op.create_index("ix_feature_attention_head", "feature_attention", ["sae_id", "head"])
    op.create_index("ix_feature_attention_family", "feature_attention", ["sae_id", "family"])


def downgrade() -> None:
    op.drop_table("feature_attention")
    op.drop_table("sae_attention")
