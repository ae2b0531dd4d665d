"""All SQL on tags; nothing here commits."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.database.list_tables import FeatureTag
from service.database.tables import Feature, Sae


def lock_feature(session: Session, sae_id: uuid.UUID, feature: int) -> bool:
    """Until the transaction ends nobody else tags the feature; False when it is gone."""
    query = select(Feature.index).where(Feature.sae_id == sae_id, Feature.index == feature)
    return session.scalar(query.with_for_update()) is not None


def tags_of(session: Session, sae_id: uuid.UUID, feature: int) -> list[str]:
    query = select(FeatureTag.tag).where(FeatureTag.sae_id == sae_id, FeatureTag.feature == feature)
    return sorted(session.scalars(query))


def add_tags(
    session: Session,
    sae_id: uuid.UUID,
    feature: int,
    tags: Sequence[str],
    owner: uuid.UUID | None,
) -> None:
    """Those that the feature has already stay as they are, and whose they are."""
    row = {"sae_id": sae_id, "feature": feature, "created_by": owner}
    rows = [{**row, "tag": tag} for tag in sorted(set(tags))]
    session.execute(insert(FeatureTag).values(rows).on_conflict_do_nothing())


def find_tag(session: Session, sae_id: uuid.UUID, feature: int, tag: str) -> FeatureTag | None:
    """The row, locked until the transaction ends."""
    return session.get(FeatureTag, (sae_id, feature, tag), with_for_update=True)


def commonest_tags(session: Session, sae_id: uuid.UUID, most: int) -> list[str]:
    """Of an SAE's features; of equally common ones the first in the order of code points."""
    order = (func.count().desc(), FeatureTag.tag.collate("C"))
    query = select(FeatureTag.tag).where(FeatureTag.sae_id == sae_id).group_by(FeatureTag.tag)
    return list(session.scalars(query.order_by(*order).limit(most)))


def count_tags(
    session: Session, sae_id: uuid.UUID | None, prefix: str | None, after: str | None, limit: int
) -> list[tuple[str, int]]:
    """(tag, features) in the order of code points, behind ``after``."""
    # The order must be the one that cursors are compared by, whatever the database's language.
    tag = FeatureTag.tag.collate("C")
    query = select(FeatureTag.tag, func.count()).group_by(FeatureTag.tag).order_by(tag).limit(limit)
    if sae_id is not None:
        query = query.where(FeatureTag.sae_id == sae_id)
    if prefix is not None:
        query = query.where(FeatureTag.tag.startswith(prefix, autoescape=True))
    if after is not None:
        query = query.where(tag > after)
    return [(word, number) for word, number in session.execute(query)]


def saes_of_tags(
    session: Session, sae_id: uuid.UUID | None, tags: Sequence[str], most: int
) -> dict[str, list[tuple[str, int]]]:
    """For each of ``tags`` (SAE's name, features), the most first, at most ``most``."""
    number = func.count()
    place = func.row_number().over(partition_by=FeatureTag.tag, order_by=(number.desc(), Sae.name))
    counted = (
        select(FeatureTag.tag, Sae.name, number.label("features"), place.label("place"))
        .join(Sae, Sae.id == FeatureTag.sae_id)
        .where(FeatureTag.tag.in_(tags))
        .group_by(FeatureTag.tag, Sae.name)
    )
    if sae_id is not None:
        counted = counted.where(FeatureTag.sae_id == sae_id)
    rows = counted.subquery("counted")
    query = (
        select(rows.c.tag, rows.c.name, rows.c.features)
        .where(rows.c.place <= most)
        .order_by(rows.c.tag, rows.c.place)
    )
    found: dict[str, list[tuple[str, int]]] = {tag: [] for tag in tags}
    for tag, name, features in session.execute(query):
        found[tag].append((name, features))
    return found
