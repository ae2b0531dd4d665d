"""Graphs of several prompts know their run, and all know what fires on their prompts.

Revision ID: 0027
Revises: 0026
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0027"
down_revision: str | None = "0026"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column("graphs", sa.Column("run_id", sa.UUID(), nullable=True))
    op.add_column("graphs", sa.Column("place", sa.Integer(), server_default="0", nullable=False))
    op.add_column("graphs", sa.Column("prompts", sa.Integer(), server_default="1", nullable=False))
    op.add_column("graphs", sa.Column("firing", sa.LargeBinary(), nullable=True))
    op.execute("UPDATE graphs SET run_id = id WHERE NOT uploaded")
    op.create_index("ix_graphs_run", "graphs", ["run_id", "place"])


def downgrade() -> None:
    op.drop_index("ix_graphs_run", table_name="graphs")
    for column in ("firing", "prompts", "place", "run_id"):
        op.drop_column("graphs", column)
