"""All SQL on latents of crosscoders; nothing here commits."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, func, insert, select
from sqlalchemy.orm import Session

from monosemy.specs.latent_classes import UNKNOWN, LatentClass, ScaledLatent
from monosemy.specs.rest.saes import LatentClassCounts
from service.database.crosscoder_tables import CrosscoderLatent
from service.database.tables import Feature, Sae

_AT_ONCE = 2000


def replace_latents(session: Session, sae: uuid.UUID, latents: Sequence[ScaledLatent]) -> None:
    """In place of what the last evaluation of the SAE has measured."""
    session.execute(delete(CrosscoderLatent).where(CrosscoderLatent.sae_id == sae))
    for first in range(0, len(latents), _AT_ONCE):
        some = latents[first : first + _AT_ONCE]
        rows = [{"sae_id": sae, **each._asdict()} for each in some]
        session.execute(insert(CrosscoderLatent), rows)


def latent_row(session: Session, sae: uuid.UUID, feature: int) -> CrosscoderLatent | None:
    """None where no evaluation has measured it."""
    return session.get(CrosscoderLatent, (sae, feature))


def of_class(sae: uuid.UUID, latent_class: str | None, genuine: bool | None) -> ColumnElement[bool]:
    """What a ``Feature`` of the SAE fulfils that is of this class, and exclusive in truth or only
    by its looks; None: any.  ``UNKNOWN``: those that no evaluation has measured."""
    of_these = select(CrosscoderLatent.feature).where(CrosscoderLatent.sae_id == sae)
    if genuine is not None:
        of_these = of_these.where(CrosscoderLatent.genuine == genuine)
    if latent_class == UNKNOWN:
        return Feature.index.not_in(of_these)
    if latent_class is not None:
        of_these = of_these.where(CrosscoderLatent.latent_class == latent_class)
    return Feature.index.in_(of_these)


def class_counts(session: Session, sae: Sae) -> LatentClassCounts:
    """How many of its latents are of which class."""
    columns = CrosscoderLatent.latent_class, CrosscoderLatent.genuine
    query = (
        select(*columns, func.count()).where(CrosscoderLatent.sae_id == sae.id).group_by(*columns)
    )
    counts = dict.fromkeys(LatentClass, 0)
    genuine = 0
    for name, is_genuine, count in session.execute(query):
        counts[LatentClass(name)] += count
        genuine += count if is_genuine else 0
    return LatentClassCounts(
        **counts, genuine=genuine, unknown=max(sae.d_sae - sum(counts.values()), 0)
    )
