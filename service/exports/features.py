"""All features of an SAE as record batches: statistics, label, best explanation, its scores."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, ColumnElement, Engine, Float, Integer, Text, select, true
from sqlalchemy.orm import Session

from service.database.session import transaction
from service.database.tables import Feature, Score
from service.features.columns import FACTS
from service.features.repository import best_of

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_FEATURES = 1000

_MEAN: ColumnElement[float] = (
    Feature.evidence["mean_activation"].astext.cast(Float(53)).label("mean_activation")
)
_FIRST = FACTS.index("max_activation") + 1
_COLUMNS: list[Any] = [
    *(getattr(Feature, name) for name in FACTS[:_FIRST]),
    _MEAN,
    *(getattr(Feature, name) for name in FACTS[_FIRST:]),
]
_SCORE = ("scorer", "metric", "value", "low", "high", "n", "n_failed", "baseline", "judge")


def feature_schema() -> pa.Schema:
    """Columns; ``explanation`` and what follows are null where a feature has none."""
    import pyarrow as pa

    types = {
        Integer: pa.int32(),
        BigInteger: pa.int64(),
        Float: pa.float64(),
        Text: pa.string(),
    }
    score = pa.struct(
        [
            pa.field("scorer", pa.string(), nullable=False),
            pa.field("metric", pa.string(), nullable=False),
            ("value", pa.float64()),
            ("low", pa.float64()),
            ("high", pa.float64()),
            pa.field("n", pa.int32(), nullable=False),
            pa.field("n_failed", pa.int32(), nullable=False),
            ("baseline", pa.float64()),
            pa.field("judge", pa.string(), nullable=False),
        ]
    )
    return pa.schema(
        [
            *(
                pa.field(column.key, types[type(column.type)], nullable=column is _MEAN)
                for column in _COLUMNS
            ),
            ("explanation_id", pa.string()),
            ("explanation_label", pa.string()),
            ("explanation", pa.string()),
            ("explainer", pa.string()),
            ("judge", pa.string()),
            pa.field("scores", pa.list_(pa.field("item", score, nullable=False)), nullable=False),
        ]
    )


def feature_batches(
    engine: Engine, sae: uuid.UUID, scorer: str = "detection", size: int = BATCH_FEATURES
) -> Iterator[pa.RecordBatch]:
    """By ascending index, ``size`` features at a time; ``scorer`` says whose scores choose the best
    explanation.

    Each batch is a transaction of its own, so that a slow reader holds no connection: what is
    written meanwhile may be in later batches.
    """
    import pyarrow as pa

    schema = feature_schema()
    after = -1
    while True:
        with transaction(engine) as session:
            rows = _rows(session, sae, scorer, after, size)
        count, after = len(rows), rows[-1]["index"] if rows else after
        batch = pa.RecordBatch.from_pylist(rows, schema=schema)
        rows.clear()  # only one form of a batch is kept while somebody reads it
        if count:
            yield batch
        del batch
        if count < size:
            return


def _rows(
    session: Session, sae: uuid.UUID, scorer: str, after: int, limit: int
) -> list[dict[str, Any]]:
    page = (
        select(
            Feature.sae_id,
            *_COLUMNS,
        )
        .where(Feature.sae_id == sae, Feature.index > after)
        .order_by(Feature.index)
        .limit(limit)
        .subquery("page")
    )
    explanation, _, join = best_of(page.c.sae_id, page.c.index, scorer)
    query = (
        select(
            *(column for column in page.c if column.key != "sae_id"),
            explanation.id.label("explanation_id"),
            explanation.label.label("explanation_label"),
            explanation.text.label("explanation"),
            explanation.explainer,
            explanation.judge,
        )
        .select_from(page)
        .outerjoin(join, true())
        .order_by(page.c.index)
    )
    rows = [dict(row) for row in session.execute(query).mappings()]
    explained = [row["explanation_id"] for row in rows if row["explanation_id"]]
    scores = _scores(session, sae, explained)
    for row in rows:
        identity = row["explanation_id"]
        row["scores"] = scores[identity]
        row["explanation_id"] = None if identity is None else str(identity)
    return rows


def _scores(
    session: Session, sae: uuid.UUID, explanations: Sequence[uuid.UUID]
) -> dict[uuid.UUID | None, list[dict[str, Any]]]:
    """By explanation, the newest of each scorer last."""
    query = (
        select(Score.explanation_id, *(getattr(Score, name) for name in _SCORE))
        .where(Score.sae_id == sae, Score.explanation_id.in_(explanations))
        .order_by(Score.explanation_id, Score.scorer, Score.created_at, Score.id)
    )
    by_explanation: dict[uuid.UUID | None, list[dict[str, Any]]] = defaultdict(list)
    for row in session.execute(query).mappings():
        by_explanation[row["explanation_id"]].append({name: row[name] for name in _SCORE})
    return by_explanation
