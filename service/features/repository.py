"""Reads of single features: a page is three statements.  Listings are in ``listing``."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    func,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.orm import Session, aliased, defer
from sqlalchemy.sql.selectable import LateralFromClause

from monosemy.interp.heading import Heading, margin
from monosemy.specs.rest.features import Votes
from service.database.list_tables import FeatureTag
from service.database.tables import (
    Context,
    Document,
    Explanation,
    Feature,
    Model,
    Sae,
    Score,
    Vote,
)
from service.explanations.repository import score_of
from service.features.heading import heading_in, leading_of
from service.models.repository import WITHOUT_TOKENS
from service.saes.repository import named, nearest_named

_INTS: ARRAY[int] = ARRAY(Integer)
# An alias copies every column of its table: made once.
_best_explanation, _best_score = aliased(Explanation), aliased(Score)
_other_explanation = aliased(Explanation)


def best_of(
    sae_id: Any, feature: Any, scorer: str | None = None, by_margin: bool = False
) -> tuple[Any, Any, Any]:
    """Lateral join to a feature's best scored explanation, else its newest, and that score; once
    in a statement.  ``by_margin``: the best is the one whose interval begins highest above its
    baseline, as that which heads a feature; so it is where any scorer will do."""
    columns = (
        Explanation.sae_id,
        Explanation.id.label("explanation_id"),
        Score.id.label("score_id"),
    )
    leading = (
        [margin(Score.low, Score.baseline).desc().nulls_last()] if by_margin or not scorer else []
    )
    inner = (
        select(*columns)
        .outerjoin(Score, and_(score_of(Explanation), Score.scorer == scorer if scorer else true()))
        .where(Explanation.sae_id == sae_id, Explanation.feature == feature)
        .order_by(*leading, *_best_first(Explanation), Score.id)
        .limit(1)
        .lateral("best")
    )
    best = inner.c
    explanation, score = _best_explanation, _best_score
    joined = inner.join(
        explanation,
        and_(explanation.sae_id == best.sae_id, explanation.id == best.explanation_id),
    ).outerjoin(score, and_(score.sae_id == best.sae_id, score.id == best.score_id))
    return explanation, score, joined


def tags_of(sae_id: Any, feature: Any) -> Select[Any]:
    """The tags of a feature as an array in alphabetical order, null without any; to be correlated
    with what its columns are of."""
    tag = FeatureTag.tag.collate("C")
    return select(func.array_agg(aggregate_order_by(FeatureTag.tag, tag))).where(
        FeatureTag.sae_id == sae_id, FeatureTag.feature == feature
    )


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
    query = (
        select(Sae, Model, Feature, tags_of(Sae.id, index).correlate(Sae).scalar_subquery())
        .join(Model, Model.id == Sae.model_id)
        .outerjoin(Feature, and_(Feature.sae_id == Sae.id, Feature.index == index))
        .options(WITHOUT_TOKENS)
        .where(named(sae))
        .order_by(*nearest_named(sae))
    )
    row = session.execute(query).first()
    return None if row is None else FoundFeature(row[0], row[1], row[2], row[3] or [])


class Labels(NamedTuple):
    """What to call a feature."""

    evidence: str | None
    """None where it is not indexed."""
    explanation: str | None
    """Label of its best explanation."""
    heading: Heading | None
    """None where it is not indexed."""


class Described(NamedTuple):
    """A feature's explanations, its labels and those of others."""

    explanations: list[tuple[Explanation, Score | None, Votes]]
    """Each with each of its scores, and its votes: the best scored first, then the newest."""
    labels: dict[int, Labels]
    """Of the feature and those of the others that are indexed."""


def describe_feature(
    session: Session, sae_id: uuid.UUID, index: int, others: Collection[int], reader: str
) -> Described:
    """All that is said of the feature ``index``; of ``others`` the labels alone, without a look at
    what their judges answered.  One statement."""
    values = {"sae_id": sae_id, "index": index, "reader": reader, "all": [index, *others]}
    rows = session.execute(_description(), values).all()
    return Described(
        [(row[3], row[4], _votes_in(row)) for row in rows if row[3] is not None],
        {row[0]: Labels(row[1], row[2], heading_in(row, row[1])) for row in rows},
    )


@cache
def _description() -> Select[Any]:
    """The statement of ``describe_feature``: putting it together takes longer than running it."""
    other = _other_explanation
    best = (
        select(other.label)
        .outerjoin(Score, score_of(other))
        .where(other.sae_id == Feature.sae_id, other.feature == Feature.index)
        .order_by(*_best_first(other))
        .limit(1)
        .correlate(Feature)
        .scalar_subquery()
    )
    leading = leading_of(Feature.sae_id, Feature.index)
    votes = _votes_on(Explanation, bindparam("reader", type_=Text))
    return (
        select(Feature.index, Feature.label, best, Explanation, Score, votes, leading)
        .select_from(Feature)
        .outerjoin(leading, true())
        .outerjoin(
            Explanation,
            and_(
                Feature.index == bindparam("index"),
                Explanation.sae_id == Feature.sae_id,
                Explanation.feature == Feature.index,
            ),
        )
        .outerjoin(Score, score_of(Explanation))
        .outerjoin(votes, true())
        .options(defer(Explanation.embedding))
        .where(
            Feature.sae_id == bindparam("sae_id"),
            Feature.index == any_(bindparam("all", type_=_INTS)),
        )
        .order_by(Feature.index, *_best_first(Explanation), Score.id)
    )


def _votes_on(explanation: Any, reader: Any) -> LateralFromClause:
    """Lateral join to the counts of votes, for ``_votes_in``."""
    return (
        select(
            func.count().filter(Vote.value > 0).label("votes_up"),
            func.count().filter(Vote.value < 0).label("votes_down"),
            func.coalesce(func.sum(Vote.value).filter(Vote.voter == reader), 0).label("votes_mine"),
        )
        .where(Vote.sae_id == explanation.sae_id, Vote.explanation_id == explanation.id)
        .lateral("votes")
    )


def _votes_in(row: Any) -> Votes:
    return Votes(up=row.votes_up, down=row.votes_down, mine=row.votes_mine)


def _best_first(explanation: Any) -> tuple[ColumnElement[Any], ...]:
    """Order of a feature's explanations: the best scored first, whoever scored; then the newest."""
    return Score.value.desc().nulls_last(), explanation.created_at.desc(), explanation.id


def labels_of(session: Session, sae_id: uuid.UUID, indices: Sequence[int]) -> dict[int, str]:
    """What these features are called: their headings."""
    wanted = bindparam("indices", list(indices), _INTS)
    leading = leading_of(Feature.sae_id, Feature.index)
    query = (
        select(Feature.index, Feature.label, leading)
        .select_from(Feature)
        .outerjoin(leading, true())
        .where(Feature.sae_id == sae_id, Feature.index == any_(wanted))
    )
    return {row[0]: heading_in(row, row.label).text for row in session.execute(query)}


def max_activations(
    session: Session, sae_id: uuid.UUID, indices: Sequence[int]
) -> dict[int, float]:
    """The strongest activation of each of these features that is indexed."""
    query = select(Feature.index, Feature.max_activation).where(
        Feature.sae_id == sae_id, Feature.index.in_(indices)
    )
    return dict(session.execute(query).tuples().all())


class FiringFacts(NamedTuple):
    """How often a feature fires, and how strongly."""

    density: float
    max_activation: float


def firing_facts(
    session: Session, sae_id: uuid.UUID, indices: Sequence[int]
) -> dict[int, FiringFacts]:
    """Of those of these features that are indexed."""
    wanted = bindparam("indices", list(indices), _INTS)
    query = select(Feature.index, Feature.density, Feature.max_activation).where(
        Feature.sae_id == sae_id, Feature.index == any_(wanted)
    )
    return {index: FiringFacts(*facts) for index, *facts in session.execute(query)}


class TextRow(NamedTuple):
    """One row of a token store."""

    start: int
    """Flat position of its first token in the token store."""
    token_ids: bytes
    """Little-endian uint32."""
    document_name: str | None


def contexts_of(session: Session, text_id: str, rows: Sequence[int]) -> dict[int, TextRow]:
    """Rows of a token store with the names of their documents."""
    values = {"text_id": text_id, "rows": list(rows)}
    return {
        row: TextRow(start, ids, name)
        for row, start, ids, name in session.execute(_contexts(), values).tuples()
    }


@cache
def _contexts() -> Select[int, int, bytes, str | None]:
    return (
        select(Context.row, Context.start, Context.token_ids, Document.name)
        .outerjoin(
            Document,
            and_(Document.text_id == Context.text_id, Document.document == Context.document),
        )
        .where(
            Context.text_id == bindparam("text_id"),
            Context.row == any_(bindparam("rows", type_=_INTS)),
        )
    )
