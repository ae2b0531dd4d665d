"""All SQL on surveys of attention SAEs; nothing here commits."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, insert, select
from sqlalchemy.orm import Session

from monosemy.specs.rest.attention import AttentionSummary, SurveyedFeature
from service.database.attention_tables import FeatureSurvey, SaeAttention
from service.database.storable import storable
from service.database.tables import Feature

_AT_ONCE = 2000


def attention_row(session: Session, sae: uuid.UUID) -> SaeAttention | None:
    return session.get(SaeAttention, sae)


def feature_row(session: Session, sae: uuid.UUID, feature: int) -> FeatureSurvey | None:
    return session.get(FeatureSurvey, (sae, feature))


def replace_attention(
    session: Session,
    sae: uuid.UUID,
    run: uuid.UUID | None,
    summary: AttentionSummary,
    files: str,
    features: Sequence[SurveyedFeature],
) -> None:
    """In place of the survey that the SAE had."""
    session.execute(delete(SaeAttention).where(SaeAttention.sae_id == sae))
    stored = storable(summary.model_dump(mode="json"))
    session.add(SaeAttention(sae_id=sae, run_id=run, summary=stored, files=files))
    session.flush()
    for first in range(0, len(features), _AT_ONCE):
        rows = [
            {
                "sae_id": sae,
                "feature": each.index,
                "head": each.head,
                "family": each.family,
                "found": storable(each.model_dump(mode="json")),
            }
            for each in features[first : first + _AT_ONCE]
        ]
        session.execute(insert(FeatureSurvey), rows)


def of_head_and_family(sae: uuid.UUID, head: int | None, family: str | None) -> ColumnElement[bool]:
    """What a ``Feature`` of the SAE fulfils that belongs to this head and family; None: to any."""
    of_these = select(FeatureSurvey.feature).where(FeatureSurvey.sae_id == sae)
    if head is not None:
        of_these = of_these.where(FeatureSurvey.head == head)
    if family is not None:
        of_these = of_these.where(FeatureSurvey.family == family)
    return Feature.index.in_(of_these)
