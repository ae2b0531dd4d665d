"""An index of who has scored in an SAE.

Revision ID: 0017
Revises: 0016
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_index(
        "ix_scores_scorer",
        "scores",
        ["sae_id", "scorer"],
        postgresql_where=sa.text("value IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_scores_scorer", table_name="scores")
