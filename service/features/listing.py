"""Features of an SAE, listed: one statement for a page, whatever it is ordered and filtered by."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Float,
    Select,
    Subquery,
    and_,
    exists,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.orm import Session, defer

from monosemy.interp.heading import Heading, margin
from monosemy.specs import SCORERS
from service.attention.repository import of_head_and_family
from service.attention.service import check_surveyed
from service.crosscoders.repository import of_class
from service.crosscoders.service import check_crosscoder
from service.database.list_tables import FeatureTag
from service.database.tables import Explanation, Feature, Score
from service.explanations.repository import score_of
from service.features.columns import FACTS
from service.features.heading import heading_in, leading_of
from service.features.repository import best_of, tags_of
from service.kit.errors import InvalidRequest
from service.kit.pagination import Order, number_of

FIRST_SCORER = "detection"
"""The usual scorer of an SAE where it has scored anything, or nobody has."""

_MARGIN = margin(Score.low, Score.baseline)
"""How far above its shuffled baseline a score's interval begins."""


@dataclass(frozen=True, kw_only=True)
class FeatureFilter:
    """Order and filters of a listing, whatever the SAE."""

    sort: str = "index"
    order: str = "asc"
    scorer: str | None = None
    """Whose scores; None: those of the SAE's usual scorer."""
    min_density: float | None = None
    max_density: float | None = None
    has_explanation: bool | None = None
    text: str | None = None
    tag: str | None = None
    indices: tuple[int, ...] | None = None
    """Only these."""
    head: int | None = None
    """Only those of this attention head, by a survey of the SAE."""
    family: str | None = None
    latent_class: str | None = None
    """Only latents of a crosscoder of this class, by its evaluation."""
    genuine: bool | None = None
    """Only those that look exclusive to a place and are, or are not."""

    def of(self, session: Session, sae: uuid.UUID, cursor: str | None = None) -> FeatureListing:
        """Of this SAE.  Where no scorer is named, a listing that goes on behind ``cursor`` keeps
        the scorer that it began with, whoever has scored since.

        ``InvalidRequest`` for a scorer and a head that there is none of, and ``Conflict`` for a
        filter by heads of an SAE without a survey, or by the classes of one that is no crosscoder.
        """
        if self.latent_class is not None or self.genuine is not None:
            check_crosscoder(session, sae)
        if self.head is not None or self.family is not None:
            check_surveyed(session, sae, self.head)
        if self.scorer is not None:
            check_scorer(session, sae, self.scorer)
            return FeatureListing(sae=sae, **asdict(self))
        known = scorers_of(session, sae)
        if cursor is not None:
            for name in (FIRST_SCORER, *known):
                begun = FeatureListing(sae=sae, **asdict(replace(self, scorer=name)))
                if BY_KEY.gave(begun.key(), cursor):
                    return begun
        usual = replace(self, scorer=usual_scorer(known))
        return FeatureListing(sae=sae, **asdict(usual))


@dataclass(frozen=True, kw_only=True)
class FeatureListing(FeatureFilter):
    """The features of one SAE in that order, by these filters."""

    sae: uuid.UUID

    def key(self) -> dict[str, Any]:
        """What a cursor belongs to.  A filter that came later is left out where it is not set, so
        that cursors given out before it still hold."""
        values = asdict(self)
        for name in ("indices", "head", "family", "latent_class", "genuine"):
            if values[name] is None:
                del values[name]
        return values

    def missing_score(self) -> float:
        """Sort key of a feature without a score: they come last in either order."""
        return math.inf if self.order == "asc" else -math.inf


@dataclass(frozen=True)
class FeatureRow:
    """One feature of a listing."""

    facts: dict[str, Any]
    """By the names of ``FACTS``."""
    heading: Heading
    explanation: Explanation | None
    score: Score | None
    tags: list[str]
    key: float
    """What the listing is ordered by."""


def usual_scorer(scorers: Iterable[str]) -> str:
    """Whose scores an SAE's features are shown by where nobody is named, of those that have scored:
    ``FIRST_SCORER``, else the first by name.  So it does not change while scores are made."""
    known = sorted(scorers)
    return FIRST_SCORER if FIRST_SCORER in known else next(iter(known), FIRST_SCORER)


def check_scorer(session: Session, sae: uuid.UUID, scorer: str) -> None:
    """``InvalidRequest`` for what is no scorer and has scored nothing in the SAE."""
    if scorer not in SCORERS and scorer not in (known := scorers_of(session, sae)):
        names = ", ".join(sorted({*SCORERS, *known}))
        raise InvalidRequest([("scorer", f"there is no scorer '{scorer}': {names}")])


def scorers_of(session: Session, sae: uuid.UUID) -> list[str]:
    """Those with scores in the SAE, by name; looked up one behind the other in the index, so that
    it takes no longer for millions of scores."""
    scored = select(Score.scorer).where(Score.sae_id == sae, Score.value.is_not(None))
    first = scored.order_by(Score.scorer).limit(1).scalar_subquery()
    scorers = select(first.label("scorer")).cte("scorers", recursive=True)
    behind = (
        scored.where(Score.scorer > scorers.c.scorer)
        .order_by(Score.scorer)
        .limit(1)
        .correlate(scorers)
        .scalar_subquery()
    )
    scorers = scorers.union_all(select(behind).where(scorers.c.scorer.is_not(None)))
    return [*session.scalars(select(scorers.c.scorer).where(scorers.c.scorer.is_not(None)))]


def list_features(
    session: Session, listing: FeatureListing, after: tuple[float, int] | None, limit: int
) -> list[FeatureRow]:
    """Features in the listing's order from behind the sort key ``after``; ties go by index."""
    page = _page_of_features(listing, after, limit).subquery("page")
    best_explanation, best_score, join = best_of(
        page.c.sae_id, page.c.index, listing.scorer, by_margin=listing.sort == "margin"
    )
    leading = leading_of(page.c.sae_id, page.c.index)
    descending = listing.order == "desc"
    tags = tags_of(page.c.sae_id, page.c.index).correlate(page).scalar_subquery()
    facts = [page.c[name] for name in FACTS]
    query = (
        select(*facts, page.c.key, best_explanation, best_score, tags.label("tags"), leading)
        .select_from(page)
        .outerjoin(join, true())
        .outerjoin(leading, true())
        .options(defer(best_explanation.embedding))
        .order_by(*_ordered((page.c.key, page.c.index), descending))
    )
    rows = []
    for row in session.execute(query):
        known = dict(zip(FACTS, row, strict=False))
        key, explanation, score = row[len(FACTS) : len(FACTS) + 3]
        heading = heading_in(row, known["label"])
        rows.append(FeatureRow(known, heading, explanation, score, row.tags or [], float(key)))
    return rows


def indices_around(
    session: Session, listing: FeatureListing, index: int
) -> tuple[int | None, int | None]:
    """The features before and after the feature ``index``, which need not be in the listing itself;
    None at its ends, and for a feature that is not indexed."""
    key, source = _sort_key(listing)
    query = (
        select(key)
        .select_from(Feature)
        .where(Feature.sae_id == listing.sae, Feature.index == index)
    )
    if source is not None:
        query = query.outerjoin(source, source.c.feature == Feature.index)
    own = session.execute(query).scalar()
    if own is None:
        return None, None
    found = []
    for backwards in (True, False):
        page = _page_of_features(listing, (float(own), index), 1, backwards).subquery("page")
        found.append(session.scalar(select(page.c.index)))
    return found[0], found[1]


def indices_behind(
    session: Session,
    listing: FeatureListing,
    after: tuple[float, int] | None,
    limit: int,
    conditions: Sequence[ColumnElement[bool]] = (),
) -> list[tuple[float, int]]:
    """Sort keys and indices from behind the sort key ``after``; ``conditions`` on ``Feature``."""
    page = _page_of_features(listing, after, limit).where(*conditions).subquery("page")
    descending = listing.order == "desc"
    query = select(page.c.key, page.c.index).order_by(
        *_ordered((page.c.key, page.c.index), descending)
    )
    return [(float(key), index) for key, index in session.execute(query)]


def count_listed(
    session: Session, listing: FeatureListing, conditions: Sequence[ColumnElement[bool]] = ()
) -> int:
    """How many features are in the listing and meet ``conditions``."""
    query = (
        select(func.count())
        .select_from(Feature)
        .where(Feature.sae_id == listing.sae, *filters_of(listing), *conditions)
    )
    return int(session.scalar(query) or 0)


def _page_of_features(
    listing: FeatureListing,
    after: tuple[float, int] | None,
    limit: int,
    backwards: bool = False,
) -> Select[Any]:
    """``backwards``: those before ``after``, the nearest first."""
    columns = [Feature.sae_id, *(getattr(Feature, name) for name in FACTS)]
    key, source = _sort_key(listing)
    query = select(*columns, key.label("key")).where(
        Feature.sae_id == listing.sae, *filters_of(listing)
    )
    if source is not None:
        query = query.outerjoin(source, source.c.feature == Feature.index)
    descending = (listing.order == "desc") != backwards
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
    scores = _best_of_scorer(listing, _MARGIN if listing.sort == "margin" else Score.value)
    missing = literal(listing.missing_score(), Float(53))
    return func.coalesce(scores.c.value, missing), scores


def best_scores(listing: FeatureListing) -> Subquery:
    """The columns ``feature`` and ``value``: the best score of each feature that the listing's
    scorer has scored."""
    return _best_of_scorer(listing, Score.value)


def _best_of_scorer(listing: FeatureListing, what: ColumnElement[Any] | Any) -> Subquery:
    return (
        select(Explanation.feature, func.max(what).label("value"))
        .join(Score, score_of(Explanation))
        .where(Explanation.sae_id == listing.sae, Score.scorer == listing.scorer)
        .group_by(Explanation.feature)
        .subquery("scores")
    )


def filters_of(listing: FeatureListing) -> list[ColumnElement[bool]]:
    """What a ``Feature`` fulfils that is in the listing, whatever its SAE."""
    conditions: list[ColumnElement[bool]] = []
    if listing.min_density is not None:
        conditions.append(Feature.density >= listing.min_density)
    if listing.max_density is not None:
        conditions.append(Feature.density <= listing.max_density)
    own = and_(Explanation.sae_id == Feature.sae_id, Explanation.feature == Feature.index)
    if listing.has_explanation is not None:
        explained = exists().where(own)
        conditions.append(explained if listing.has_explanation else ~explained)
    if listing.indices is not None:
        conditions.append(Feature.index.in_(listing.indices))
    if listing.tag is not None:
        tagged = select(FeatureTag.feature).where(
            FeatureTag.sae_id == listing.sae, FeatureTag.tag == listing.tag
        )
        conditions.append(Feature.index.in_(tagged))
    if listing.head is not None or listing.family is not None:
        conditions.append(of_head_and_family(listing.sae, listing.head, listing.family))
    if listing.latent_class is not None or listing.genuine is not None:
        conditions.append(of_class(listing.sae, listing.latent_class, listing.genuine))
    if listing.text is not None:
        words = func.websearch_to_tsquery("english", listing.text)
        matches = or_(
            Explanation.words.op("@@")(words),
            Explanation.text.icontains(listing.text, autoescape=True),
        )
        conditions.append(
            or_(
                Feature.words.op("@@")(words),
                Feature.label.icontains(listing.text, autoescape=True),
                Feature.index.in_(
                    select(Explanation.feature).where(Explanation.sae_id == listing.sae, matches)
                ),
            )
        )
    return conditions


def _ordered(keys: Sequence[ColumnElement[Any]], descending: bool) -> list[ColumnElement[Any]]:
    return [key.desc() if descending else key.asc() for key in keys]


def _read_key(key: str, index: int) -> tuple[float, int]:
    number = float.fromhex(key)
    if math.isnan(number):
        raise ValueError
    return number, number_of(2**31)(index)


# In hex a float comes back as the very same number, infinities included.
BY_KEY: Order[FeatureRow, tuple[float, int]] = Order(
    (str, int), lambda row: (row.key.hex(), row.facts["index"]), _read_key
)
