"""Lists and tags of features.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | None = None
depends_on: str | None = None

NOW = sa.text("now()")


def upgrade() -> None:
    op.create_table(
        "feature_lists",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_feature_lists"),
        sa.UniqueConstraint("name", name="uq_feature_lists_name"),
    )
    op.create_index("ix_feature_lists_created", "feature_lists", ["created_at", "id"])
    op.create_table(
        "feature_list_entries",
        sa.Column("list_id", sa.UUID(), nullable=False),
        sa.Column("sae_id", sa.UUID(), nullable=False),
        sa.Column("feature", sa.Integer(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["list_id"],
            ["feature_lists.id"],
            name="fk_feature_list_entries_list_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["sae_id"], ["saes.id"], name="fk_feature_list_entries_sae_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("list_id", "sae_id", "feature", name="pk_feature_list_entries"),
    )
    op.create_index(
        "ix_feature_list_entries_order", "feature_list_entries", ["list_id", "position"]
    )
    op.create_index("ix_feature_list_entries_sae", "feature_list_entries", ["sae_id"])
    op.create_table(
        "feature_tags",
        sa.Column("sae_id", sa.UUID(), nullable=False),
        sa.Column("feature", sa.Integer(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["sae_id"], ["saes.id"], name="fk_feature_tags_sae_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sae_id", "feature", "tag", name="pk_feature_tags"),
    )
    op.create_index("ix_feature_tags_tag", "feature_tags", ["tag", "sae_id", "feature"])


def downgrade() -> None:
    op.drop_table("feature_tags")
    op.drop_table("feature_list_entries")
    op.drop_table("feature_lists")
