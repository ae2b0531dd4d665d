"""Results of benchmarks.

Revision ID: 0028
Revises: 0027
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0028"
down_revision: str | None = "0027"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "benchmark_results",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("sae_id", sa.UUID(), nullable=False),
        sa.Column("protocol", sa.Text(), nullable=False),
        sa.Column("sae_digest", sa.Text(), nullable=False),
        sa.Column("benchmark", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("figures", postgresql.JSONB(), nullable=False),
        sa.Column("result", postgresql.JSONB(), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("created_by", sa.UUID(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["sae_id"], ["saes.id"], name="fk_benchmark_results_sae_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["created_by"],
            ["api_keys.id"],
            name="fk_benchmark_results_created_by",
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_benchmark_results"),
        sa.UniqueConstraint("sae_id", "protocol", name="uq_benchmark_results_of"),
    )
    op.create_index(
        "ix_benchmark_results_protocol", "benchmark_results", ["protocol", "created_at"]
    )
    op.create_index("ix_benchmark_results_created", "benchmark_results", ["created_at", "id"])


def downgrade() -> None:
    op.drop_table("benchmark_results")
