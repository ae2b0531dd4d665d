"""All SQL on comparisons and links; nothing here commits."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    REAL,
    Integer,
    Select,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    delete,
    or_,
    select,
    tuple_,
)
from sqlalchemy.orm import Session, aliased

from monosemy.specs.rest.comparisons import MatchSort
from service.database.comparison_tables import Comparison, FeatureLink
from service.database.tables import Sae
from service.kit.errors import Listing, NotFound
from service.kit.pagination import TimeKey, newest_first
from service.kit.references import row_of

Row = tuple[Comparison, Sae, Sae]
"""A comparison with its first and its second SAE."""


def list_comparisons(
    session: Session,
    sae: uuid.UUID | None,
    before: TimeKey | None,
    limit: int,
) -> Sequence[Row]:
    """Newest first; with ``sae`` those that it is a side of."""
    query = _with_sides()
    if sae is not None:
        query = query.where(or_(Comparison.sae_a == sae, Comparison.sae_b == sae))
    rows = session.execute(newest_first(query, Comparison, before, limit))
    return [(row[0], row[1], row[2]) for row in rows]


def find_comparison(session: Session, reference: str, only: bool = False) -> Row:
    """By id or ``latest``; raises as ``row_of``, which says what ``only`` is."""
    what, listing = "comparison", Listing.COMPARISONS
    id = row_of(session, Comparison, reference, what, listing, only=only).id
    row = session.execute(_with_sides().where(Comparison.id == id)).first()
    if row is None:  # deleted meanwhile
        raise NotFound(what, reference, listing)
    return row[0], row[1], row[2]


def delete_comparison(session: Session, id: uuid.UUID) -> None:
    session.execute(delete(Comparison).where(Comparison.id == id))


def list_matches(
    session: Session,
    comparison: uuid.UUID,
    matched: bool | None,
    least: float | None,
    sort: MatchSort,
    backwards: bool,
    after: tuple[float, int, int] | None,
    limit: int,
) -> Sequence[FeatureLink]:
    """The most alike first, or by the features of one side; ``backwards``: the other way round."""
    link = FeatureLink
    sides = (link.feature_b, link.feature_a) if sort == "b" else (link.feature_a, link.feature_b)
    query = select(link).where(link.comparison_id == comparison)
    if matched is not None:
        query = query.where(link.matched == matched)
    if least is not None:
        query = query.where(link.value >= cast(least, REAL))
    order: list[Any] = [each.desc() if backwards else each.asc() for each in sides]
    keys: list[Any] = list(sides)
    if sort == "value":
        order.insert(0, link.value.asc() if backwards else link.value.desc())
        keys.insert(0, -link.value)
    if after is not None:
        number, a, b = after
        value = cast(number, REAL)  # in the column's own precision, or equal ones would differ
        bounds: dict[MatchSort, Any] = {"value": (-value, a, b), "a": (a, b), "b": (b, a)}
        own, bound = tuple_(*keys), tuple_(*bounds[sort])
        behind = own < bound if backwards else own > bound
        query = query.where(behind)
        if sort == "value":  # says nothing new, but the index serves it
            query = query.where(link.value >= value if backwards else link.value <= value)
    return session.scalars(query.order_by(*order).limit(limit)).all()


def links_of(session: Session, sae: uuid.UUID, feature: int, by: str | None) -> Sequence[Any]:
    """(comparison, the other SAE, its feature, value, matched), the most alike first."""
    query = _links()
    if by is not None:
        query = query.where(Comparison.by == by)
    return session.execute(query, {"sae": sae, "feature": feature}).all()


@cache
def _links() -> Select[Any]:
    """Links of the feature ``feature`` of ``sae``; made once, as each page of a feature asks."""
    sae, feature = bindparam("sae", type_=Uuid), bindparam("feature", type_=Integer)
    first = and_(Comparison.sae_a == sae, FeatureLink.feature_a == feature)
    second = and_(Comparison.sae_b == sae, FeatureLink.feature_b == feature)
    is_first = Comparison.sae_a == sae
    return (
        select(
            Comparison,
            Sae,
            case((is_first, FeatureLink.feature_b), else_=FeatureLink.feature_a),
            FeatureLink.value,
            FeatureLink.matched,
        )
        .join(FeatureLink, FeatureLink.comparison_id == Comparison.id)
        .join(Sae, Sae.id == case((is_first, Comparison.sae_b), else_=Comparison.sae_a))
        .where(or_(first, second))
        .order_by(Comparison.by, FeatureLink.value.desc(), Comparison.id)
    )


def _with_sides() -> Any:
    a, b = aliased(Sae), aliased(Sae)
    return (
        select(Comparison, a, b).join(a, a.id == Comparison.sae_a).join(b, b.id == Comparison.sae_b)
    )
