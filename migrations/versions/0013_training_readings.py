"""Readings of trainings, which were among the events of their runs.

Those of earlier runs stay there, as long as the events do.

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "training_readings",
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("place", sa.SmallInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("reading", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_training_readings_run_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "place", "step", name="pk_training_readings"),
    )


def downgrade() -> None:
    op.drop_table("training_readings")
