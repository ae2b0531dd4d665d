"""Latents of crosscoders: class and latent scaling of each.

Revision ID: 0025
Revises: 0022
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0025"
down_revision: str | None = "0022"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "crosscoder_latents",
        sa.Column("sae_id", sa.UUID(), nullable=False),
        sa.Column("feature", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("latent_class", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("genuine", sa.Boolean(), nullable=True),
        sa.Column("nu_error", sa.Float(53), nullable=True),
        sa.Column("nu_reconstruction", sa.Float(53), nullable=True),
        sa.ForeignKeyConstraint(
            ["sae_id"], ["saes.id"], name="fk_crosscoder_latents_sae_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sae_id", "feature", name="pk_crosscoder_latents"),
    )
    op.create_index("ix_crosscoder_latents_class", "crosscoder_latents", ["sae_id", "latent_class"])


def downgrade() -> None:
    op.drop_table("crosscoder_latents")
