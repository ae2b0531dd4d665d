"""Layouts of SAEs in two dimensions.

Revision ID: 0016
Revises: 0015
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0016"
down_revision: str | None = "0015"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "sae_layouts",
        sa.Column("sae_id", sa.UUID(), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=True),
        sa.Column("summary", postgresql.JSONB(), nullable=False),
        sa.Column("files", sa.Text(), nullable=False),
        sa.Column("places", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["sae_id"], ["saes.id"], name="fk_sae_layouts_sae_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_sae_layouts_run_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("sae_id", name="pk_sae_layouts"),
    )


def downgrade() -> None:
    op.drop_table("sae_layouts")
