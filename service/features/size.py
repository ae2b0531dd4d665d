"""What features cost on disk, measured on the stored rows."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from monosemy.errors import DataError
from service.database.tables import Feature


@dataclass(frozen=True)
class FeatureSize:
    """Means over an SAE's indexed features, in bytes as PostgreSQL stores them (compressed)."""

    features: int
    examples: float
    """The examples."""
    evidence: float
    """The evidence."""
    row: float
    """The whole row, those two included."""
    context: float
    """Share of the token store's rows and document names; other SAEs on that text use them too."""
    index_entries: float
    """Share of the table's indexes, which all SAEs have in common."""

    @property
    def total(self) -> float:
        return self.row + self.context + self.index_entries


# Column by column: pg_column_size of a whole row would count TOASTed values uncompressed.
_HEADER = 24
_COLUMNS = " + ".join(f"pg_column_size({name})" for name in Feature.__table__.columns.keys())  # noqa: SIM118
_FEATURES = text(f"""
    SELECT count(*), avg(pg_column_size(examples)), avg(pg_column_size(evidence)),
           avg({_HEADER} + {_COLUMNS})
    FROM features WHERE sae_id = :sae
""")
_CONTEXTS = text(f"""
    SELECT (SELECT coalesce(sum({_HEADER} + pg_column_size(text_id) + 16
                                + pg_column_size(token_ids)), 0)
            FROM contexts c WHERE c.text_id = t.text_id)
         + (SELECT coalesce(sum({_HEADER} + pg_column_size(text_id) + 4
                                + pg_column_size(name)), 0)
            FROM documents d WHERE d.text_id = t.text_id)
    FROM (SELECT index ->> 'text_id' AS text_id FROM saes WHERE id = :sae) t
""")
_INDEXES = text("""
    SELECT pg_indexes_size('features')::float8 / greatest(count(*), 1) FROM features
""")


def measure_size(session: Session, sae_id: uuid.UUID) -> FeatureSize:
    """Bytes per feature of one SAE; ``DataError`` when it has no features yet."""
    features, examples, evidence, row = session.execute(_FEATURES, {"sae": sae_id}).one()
    if not features:
        raise DataError(f"SAE {sae_id} has no features to measure.", "Index it first.")
    contexts = session.execute(_CONTEXTS, {"sae": sae_id}).scalar_one() or 0
    return FeatureSize(
        features=features,
        examples=float(examples),
        evidence=float(evidence),
        row=float(row),
        context=float(contexts) / features,
        index_entries=float(session.execute(_INDEXES).scalar_one()),
    )
