"""Numbers of all features of an SAE at once, a column for each quantity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, and_, case, exists, func, literal, or_, select, true
from sqlalchemy.orm import Session

from monosemy.index.evidence_label import LABEL_KINDS
from monosemy.interp.heading import margin
from monosemy.specs.rest.features import FeatureColumn, LayoutColumn
from service.database.list_tables import FeatureTag
from service.database.tables import Explanation, Feature, Sae, Score
from service.explanations.repository import score_of
from service.features.listing import FeatureListing, best_scores, filters_of

Columns = npt.NDArray[np.float32]

_PLACES: tuple[FeatureColumn, ...] = get_args(LayoutColumn)


def measured(
    session: Session,
    sae: Sae,
    listing: FeatureListing,
    names: Sequence[FeatureColumn],
    places: Columns | None = None,
    tags: Sequence[str] = (),
) -> Columns:
    """[names, d_sae]: row i has the quantity ``names[i]`` of every feature, NaN where it is not
    known.  ``listing`` says whose scores count and what ``matches``; ``places`` [2, d_sae] are
    those of the SAE's layout; one statement for the rest.  A ``tag`` is the place in ``tags`` of
    the first of them that a feature has, ``len(tags)`` where it has others."""
    columns = np.full((len(names), sae.d_sae), np.nan, np.float32)
    for place, name in enumerate(names):
        if name in _PLACES and places is not None:
            columns[place] = places[_PLACES.index(name)]
    counted = [place for place, name in enumerate(names) if name not in _PLACES]
    if not counted:
        return columns
    scores = best_scores(listing) if "score" in names else None
    sql = {**_SQL, "tag": lambda _: _tag(tags)}
    if scores is not None:
        sql["score"] = lambda _: scores.c.value
    asked = [sql[names[place]](listing) for place in counted]
    query = select(Feature.index, *asked).where(Feature.sae_id == sae.id)
    if scores is not None:
        query = query.outerjoin(scores, scores.c.feature == Feature.index)
    found = session.execute(query).all()
    if found:
        index, *values = zip(*found, strict=True)
        for place, column in zip(counted, values, strict=True):
            columns[place, list(index)] = np.array(column, np.float32)
    return columns


def _evidence(name: str) -> ColumnElement[Any]:
    return Feature.evidence[name].as_float()


def _top_token_share(_: FeatureListing) -> ColumnElement[Any]:
    return Feature.evidence[("top_tokens", "0", "share")].as_float()


def _distinct_tokens(_: FeatureListing) -> ColumnElement[Any]:
    """Unknown where no firing is counted, as in an index of an earlier version."""
    return case((_evidence("distinct_tokens") > 0, _evidence("distinct_tokens")))


def _logit_kurtosis(_: FeatureListing) -> ColumnElement[Any]:
    """Unknown where the host has no logits: no effect has a spread there."""
    return case((_evidence("logit_std") > 0, _evidence("logit_kurtosis")))


def _explained(_: FeatureListing) -> ColumnElement[Any]:
    own = and_(Explanation.sae_id == Feature.sae_id, Explanation.feature == Feature.index)
    return case((exists().where(own), 1.0), else_=0.0)


def _heading(_: FeatureListing) -> ColumnElement[Any]:
    own = and_(Explanation.sae_id == Feature.sae_id, Explanation.feature == Feature.index)
    above = margin(Score.low, Score.baseline) > 0
    told_apart = exists().where(own, score_of(Explanation), above)
    return case((told_apart, 2.0), (exists().where(own), 1.0), else_=0.0)


def _evidence_kind(_: FeatureListing) -> ColumnElement[Any]:
    kinds = [
        (or_(*(Feature.label.startswith(each, autoescape=True) for each in begins)), float(kind))
        for kind, (_, begins) in enumerate(LABEL_KINDS[:-1])
    ]
    return case(*kinds, else_=float(len(LABEL_KINDS) - 1))


def _tag(tags: Sequence[str]) -> ColumnElement[Any]:
    rank = (
        case(
            *((FeatureTag.tag == tag, float(place)) for place, tag in enumerate(tags)),
            else_=float(len(tags)),
        )
        if tags
        else literal(0.0)
    )
    own = and_(FeatureTag.sae_id == Feature.sae_id, FeatureTag.feature == Feature.index)
    return select(func.min(rank)).where(own).correlate(Feature).scalar_subquery()


def _matches(listing: FeatureListing) -> ColumnElement[Any]:
    return case((and_(true(), *filters_of(listing)), 1.0), else_=0.0)


_SQL: dict[FeatureColumn, Callable[[FeatureListing], ColumnElement[Any]]] = {
    "density": lambda _: Feature.density.expression,
    "maximum": lambda _: Feature.max_activation.expression,
    "mean": lambda _: _evidence("mean_activation"),
    "top_token_share": _top_token_share,
    "distinct_tokens": _distinct_tokens,
    "logit_kurtosis": _logit_kurtosis,
    "explained": _explained,
    "heading": _heading,
    "evidence_kind": _evidence_kind,
    "matches": _matches,
}
"""All but ``score``, ``tag`` and the places of a layout, which come from tables of their own."""
