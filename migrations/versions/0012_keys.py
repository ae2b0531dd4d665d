"""Explanations, their scores and votes are keyed by SAE first, so that the tables can be divided by
SAE; an explanation's embedding gets the width that the deployment asks for (``monosemy migrate``).

Scores, votes and the work items that name an explanation get its ``sae_id``.  The tables are locked
while that is filled in.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | None = None
depends_on: str | None = None

EXPLANATION = ["sae_id", "explanation_id"]
OF_EXPLANATION = ("scores", "explanation_votes", "work_items")


def upgrade() -> None:
    op.drop_constraint("fk_scores_explanation_id", "scores", type_="foreignkey")
    op.drop_constraint(
        "fk_explanation_votes_explanation_id", "explanation_votes", type_="foreignkey"
    )
    for column in ("explanation_id", "borrowed_id"):
        op.drop_constraint(f"fk_work_items_{column}", "work_items", type_="foreignkey")
    for table in OF_EXPLANATION:
        op.add_column(table, sa.Column("sae_id", sa.UUID(), nullable=True))
        op.execute(
            f"UPDATE {table} SET sae_id = explanations.sae_id FROM explanations"
            f" WHERE explanations.id = {table}.explanation_id"
        )

    op.drop_constraint("pk_explanations", "explanations", type_="primary")
    op.create_primary_key("pk_explanations", "explanations", ["sae_id", "id"])
    op.create_index("ix_explanations_id", "explanations", ["id"])

    for table in ("scores", "explanation_votes"):
        op.alter_column(table, "sae_id", nullable=False)
        op.drop_constraint(f"pk_{table}", table, type_="primary")
    op.drop_constraint("uq_scores_key", "scores", type_="unique")
    op.create_primary_key("pk_scores", "scores", ["sae_id", "id"])
    op.create_unique_constraint("uq_scores_key", "scores", [*EXPLANATION, "key"])
    op.create_primary_key("pk_explanation_votes", "explanation_votes", [*EXPLANATION, "voter"])
    for table in OF_EXPLANATION:
        op.create_foreign_key(
            f"fk_{table}_explanation",
            table,
            "explanations",
            EXPLANATION,
            ["sae_id", "id"],
            ondelete="CASCADE",
        )
    op.create_foreign_key(
        "fk_work_items_borrowed",
        "work_items",
        "explanations",
        ["sae_id", "borrowed_id"],
        ["sae_id", "id"],
        ondelete="SET NULL (borrowed_id)",
    )


def downgrade() -> None:
    for name in ("explanation", "borrowed"):
        op.drop_constraint(f"fk_work_items_{name}", "work_items", type_="foreignkey")
    for table in ("explanation_votes", "scores"):
        op.drop_constraint(f"fk_{table}_explanation", table, type_="foreignkey")
        op.drop_constraint(f"pk_{table}", table, type_="primary")
    op.drop_constraint("uq_scores_key", "scores", type_="unique")
    op.drop_index("ix_explanations_id", "explanations")
    op.drop_constraint("pk_explanations", "explanations", type_="primary")
    op.create_primary_key("pk_explanations", "explanations", ["id"])

    for table in reversed(OF_EXPLANATION):
        op.drop_column(table, "sae_id")
    op.create_primary_key("pk_scores", "scores", ["id"])
    op.create_unique_constraint("uq_scores_key", "scores", ["explanation_id", "key"])
    op.create_primary_key("pk_explanation_votes", "explanation_votes", ["explanation_id", "voter"])
    for table in OF_EXPLANATION:
        op.create_foreign_key(
            f"fk_{table}_explanation_id",
            table,
            "explanations",
            ["explanation_id"],
            ["id"],
            ondelete="CASCADE",
        )
    op.create_foreign_key(
        "fk_work_items_borrowed_id",
        "work_items",
        "explanations",
        ["borrowed_id"],
        ["id"],
        ondelete="SET NULL",
    )
