"""Graphs of feature circuits beside those of prompts.

Revision ID: 0026
Revises: 0025
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0026"
down_revision: str | None = "0025"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column(
        "graphs", sa.Column("kind", sa.Text(), nullable=False, server_default=sa.text("'graph'"))
    )


def downgrade() -> None:
    op.execute("DELETE FROM graphs WHERE kind <> 'graph'")
    op.drop_column("graphs", "kind")
