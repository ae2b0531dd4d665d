"""Which API key made what: SAEs, explanations, comparisons, tags, uploads.

Where it can be told it is filled in: SAEs, explanations and comparisons from their runs,
explanations that people gave from what was noted with them.  The rest belongs to administrators.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | None = None
depends_on: str | None = None

OWNED = ("saes", "explanations", "comparisons", "feature_tags")
OF_ITS_RUN = {"saes": "run_id", "explanations": "run_id", "comparisons": "id"}


def upgrade() -> None:
    for table in OWNED:
        op.add_column(table, sa.Column("created_by", sa.UUID(), nullable=True))
        op.create_foreign_key(
            f"fk_{table}_created_by",
            table,
            "api_keys",
            ["created_by"],
            ["id"],
            ondelete="SET NULL",
        )
    for table, run in OF_ITS_RUN.items():
        op.execute(
            f"UPDATE {table} SET created_by = runs.created_by FROM runs"
            f" WHERE runs.id = {table}.{run} AND runs.created_by IS NOT NULL"
        )
    op.execute(
        "UPDATE explanations SET created_by = api_keys.id FROM api_keys"
        " WHERE explanations.run_id IS NULL"
        " AND explanations.provenance->>'api_key' = api_keys.id::text"
    )
    op.drop_constraint("uq_comparisons_of", "comparisons", type_="unique")
    op.create_unique_constraint(
        "uq_comparisons_of", "comparisons", ["sae_a", "sae_b", "by", "method", "created_by"]
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_by", sa.UUID(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["created_by"], ["api_keys.id"], name="fk_uploads_created_by", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
    )


def downgrade() -> None:
    op.drop_table("uploads")
    # The newest of several keys' comparisons is the one that there was room for.
    op.execute(
        "DELETE FROM comparisons AS old USING comparisons AS new"
        ' WHERE (old.sae_a, old.sae_b, old."by", old.method)'
        ' = (new.sae_a, new.sae_b, new."by", new.method)'
        " AND (old.created_at, old.id) < (new.created_at, new.id)"
    )
    op.drop_constraint("uq_comparisons_of", "comparisons", type_="unique")
    op.create_unique_constraint(
        "uq_comparisons_of", "comparisons", ["sae_a", "sae_b", "by", "method"]
    )
    for table in reversed(OWNED):
        op.drop_constraint(f"fk_{table}_created_by", table, type_="foreignkey")
        op.drop_column(table, "created_by")
