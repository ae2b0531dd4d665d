"""Reads of features.  A page of a listing is one statement, a feature's own page three."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Float,
    Integer,
    Select,
    Subquery,
    and_,
    any_,
    bindparam,
    exists,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.orm import Session, aliased, defer

from service.database.list_tables import FeatureTag
from service.database.tables import Context, Document, Explanation, Feature, Model, Sae, Score
from service.features.cursor import FeatureListing
from service.models.repository import WITHOUT_TOKENS
from service.saes.repository import named, nearest_named

_INTS: ARRAY[int] = ARRAY(Integer)


@dataclass(frozen=True)
class FeatureRow:
    """One feature of a listing."""

    index: int
    label: str
    density: float
    max_activation: float
    postings: int
    explanation: Explanation | None
    score: Score | None
    key: float
    """What the listing is ordered by."""


def list_features(
    session: Session, listing: FeatureListing, after: tuple[float, int] | None, limit: int
) -> list[FeatureRow]:
    """Features in the listing's order from behind the sort key ``after``; ties go by index."""
    page = _page_of_features(listing, after, limit).subquery("page")
    best_explanation, best_score, join = best_of(page.c.sae_id, page.c.index, listing.scorer)
    descending = listing.order == "desc"
    query = (
        select(page, best_explanation, best_score)
        .select_from(page)
        .outerjoin(join, true())
        .options(defer(best_explanation.embedding))
        .order_by(*_ordered((page.c.key, page.c.index), descending))
    )
    rows = []
    for row in session.execute(query):
        _, index, label, density, max_activation, postings, key, explanation, score = row
        rows.append(
            FeatureRow(
                index, label, density, max_activation, postings, explanation, score, float(key)
            )
        )
    return rows


def _page_of_features(
    listing: FeatureListing, after: tuple[float, int] | None, limit: int
) -> Select[Any]:
    columns = (
        Feature.sae_id,
        Feature.index,
        Feature.label,
        Feature.density,
        Feature.max_activation,
        Feature.postings,
    )
    key, source = _sort_key(listing)
    query = select(*columns, key.label("key")).where(
        Feature.sae_id == listing.sae, *_filters(listing)
    )
    if source is not None:
        query = query.outerjoin(source, source.c.feature == Feature.index)
    descending = listing.order == "desc"
    # The index alone orders by primary key; the constant key must not stand in the way of that.
    keys: list[ColumnElement[Any]] = [Feature.index.expression]
    if listing.sort != "index":
        keys.insert(0, key)
    if after is not None:
        bound = after[1:] if listing.sort == "index" else after
        left, right = tuple_(*keys), tuple_(*bound)
        query = query.where(left < right if descending else left > right)
    return query.order_by(*_ordered(keys, descending)).limit(limit)


def _sort_key(listing: FeatureListing) -> tuple[ColumnElement[Any], Subquery | None]:
    if listing.sort == "density":
        return Feature.density.expression, None
    if listing.sort == "max_activation":
        return Feature.max_activation.expression, None
    if listing.sort == "index":
        return literal(0.0, Float(53)), None
    scores = (
        select(Explanation.feature, func.max(Score.value).label("value"))
        .join(Score, Score.explanation_id == Explanation.id)
        .where(Explanation.sae_id == listing.sae, Score.scorer == listing.scorer)
        .group_by(Explanation.feature)
        .subquery("scores")
    )
    missing = literal(listing.missing_score(), Float(53))
    return func.coalesce(scores.c.value, missing), scores


def _filters(listing: FeatureListing) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if listing.min_density is not None:
        conditions.append(Feature.density >= listing.min_density)
    if listing.max_density is not None:
        conditions.append(Feature.density <= listing.max_density)
    own = and_(Explanation.sae_id == Feature.sae_id, Explanation.feature == Feature.index)
    if listing.has_explanation is not None:
        explained = exists().where(own)
        conditions.append(explained if listing.has_explanation else ~explained)
    if listing.tag is not None:
        tagged = select(FeatureTag.feature).where(
            FeatureTag.sae_id == listing.sae, FeatureTag.tag == listing.tag
        )
        conditions.append(Feature.index.in_(tagged))
    if listing.text is not None:
        words = func.websearch_to_tsquery("english", listing.text)
        said = or_(
            Explanation.words.op("@@")(words),
            Explanation.text.icontains(listing.text, autoescape=True),
        )
        conditions.append(
            or_(
                Feature.words.op("@@")(words),
                Feature.label.icontains(listing.text, autoescape=True),
                Feature.index.in_(
                    select(Explanation.feature).where(Explanation.sae_id == listing.sae, said)
                ),
            )
        )
    return conditions


def best_of(sae_id: Any, feature: Any, scorer: str = "detection") -> tuple[Any, Any, Any]:
    """Lateral join to a feature's best scored explanation, else its newest, and that score."""
    inner = (
        select(Explanation.id.label("explanation_id"), Score.id.label("score_id"))
        .outerjoin(Score, and_(Score.explanation_id == Explanation.id, Score.scorer == scorer))
        .where(Explanation.sae_id == sae_id, Explanation.feature == feature)
        .order_by(
            Score.value.desc().nulls_last(),
            Explanation.created_at.desc(),
            Explanation.id,
            Score.id,
        )
        .limit(1)
        .lateral("best")
    )
    explanation, score = aliased(Explanation), aliased(Score)
    joined = inner.join(explanation, explanation.id == inner.c.explanation_id).outerjoin(
        score, score.id == inner.c.score_id
    )
    return explanation, score, joined


def _ordered(keys: Sequence[ColumnElement[Any]], descending: bool) -> list[ColumnElement[Any]]:
    return [key.desc() if descending else key.asc() for key in keys]


class FoundFeature(NamedTuple):
    """A latent of a known SAE, with the SAE's host model."""

    sae: Sae
    model: Model
    feature: Feature | None
    """None where it is not indexed."""
    tags: list[str]
    """In alphabetical order."""


def find_feature(session: Session, sae: str, index: int) -> FoundFeature | None:
    """The latent ``index`` of the SAE of this id or name, None if there is no such SAE."""
    tag = FeatureTag.tag.collate("C")
    tags = (
        select(func.array_agg(aggregate_order_by(FeatureTag.tag, tag)))
        .where(FeatureTag.sae_id == Sae.id, FeatureTag.feature == index)
        .correlate(Sae)
        .scalar_subquery()
    )
    query = (
        select(Sae, Model, Feature, tags)
        .join(Model, Model.id == Sae.model_id)
        .outerjoin(Feature, and_(Feature.sae_id == Sae.id, Feature.index == index))
        .options(WITHOUT_TOKENS)
        .where(named(sae))
        .order_by(*nearest_named(sae))
    )
    row = session.execute(query).first()
    return None if row is None else FoundFeature(row[0], row[1], row[2], row[3] or [])


@dataclass(frozen=True)
class Described:
    """A feature's label with each pair of an explanation and one of its scores."""

    index: int
    label: str
    explanation: Explanation | None
    score: Score | None


def describe_features(
    session: Session, sae_id: uuid.UUID, indices: Sequence[int]
) -> list[Described]:
    """Labels, explanations and scores of these features, the best scored first, then the newest."""
    query = (
        select(Feature.index, Feature.label, Explanation, Score)
        .outerjoin(
            Explanation,
            and_(Explanation.sae_id == Feature.sae_id, Explanation.feature == Feature.index),
        )
        .outerjoin(Score, Score.explanation_id == Explanation.id)
        .options(defer(Explanation.embedding))
        .where(Feature.sae_id == sae_id, Feature.index.in_(indices))
        .order_by(
            Feature.index,
            Score.value.desc().nulls_last(),
            Explanation.created_at.desc(),
            Explanation.id,
            Score.id,
        )
    )
    return [Described(*row) for row in session.execute(query)]


def labels_of(session: Session, sae_id: uuid.UUID, indices: Sequence[int]) -> dict[int, str]:
    """What to call these features: the best explanation's label, else the evidence label."""
    wanted = bindparam("indices", list(indices), _INTS)
    query = (
        select(Feature.index, func.coalesce(Explanation.label, Feature.label))
        .distinct(Feature.index)
        .outerjoin(
            Explanation,
            and_(Explanation.sae_id == Feature.sae_id, Explanation.feature == Feature.index),
        )
        .outerjoin(Score, Score.explanation_id == Explanation.id)
        .where(Feature.sae_id == sae_id, Feature.index == any_(wanted))
        .order_by(
            Feature.index,
            Score.value.desc().nulls_last(),
            Explanation.created_at.desc(),
            Explanation.id,
        )
    )
    return dict(session.execute(query).tuples().all())


def max_activations(
    session: Session, sae_id: uuid.UUID, indices: Sequence[int]
) -> dict[int, float]:
    """The strongest activation of each of these features that is indexed."""
    query = select(Feature.index, Feature.max_activation).where(
        Feature.sae_id == sae_id, Feature.index.in_(indices)
    )
    return dict(session.execute(query).tuples().all())


class TextRow(NamedTuple):
    """One row of a token store."""

    start: int
    """Flat position of its first token in the token store."""
    token_ids: bytes
    """Little-endian uint32."""
    document_name: str | None


def contexts_of(session: Session, text_id: str, rows: Sequence[int]) -> dict[int, TextRow]:
    """Rows of a token store with the names of their documents."""
    query = (
        select(Context.row, Context.start, Context.token_ids, Document.name)
        .outerjoin(
            Document,
            and_(Document.text_id == Context.text_id, Document.document == Context.document),
        )
        .where(Context.text_id == text_id, Context.row.in_(rows))
    )
    return {
        row: TextRow(start, ids, name) for row, start, ids, name in session.execute(query).tuples()
    }
