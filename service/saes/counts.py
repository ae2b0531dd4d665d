"""How far the work on the features of SAEs has come: counts, which pages show and ask for often."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from threading import Lock
from typing import Any

from sqlalchemy import Select, and_, func, select, text, tuple_
from sqlalchemy.orm import Session

from monosemy.specs.rest.saes import FeatureCounts
from service.database.tables import Explanation, Feature, Sae, Score
from service.explanations.repository import score_of

LARGE = 200_000
"""Explanations from which on counting takes longer than a page may."""
KEPT_SECONDS = 30.0
"""How long counts over that many are good for."""

Counts = dict[uuid.UUID, FeatureCounts]


class _Kept:
    """Counts of the last half minute; whoever asks while they are made waits for them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_what: dict[Any, tuple[float, Counts]] = {}

    def count(self, session: Session, saes: Sequence[Sae]) -> Counts:
        what = (session.get_bind(), frozenset(sae.id for sae in saes))
        with self._lock:
            now = time.monotonic()
            good = {k: v for k, v in self._by_what.items() if now - v[0] < KEPT_SECONDS}
            if what not in good:
                counts = _count(session, saes)
                good[what] = (time.monotonic(), counts)
            self._by_what = good
            return good[what][1]


_kept = _Kept()


def count_features(session: Session, saes: Sequence[Sae]) -> Counts:
    """By id.  Where the database holds more than ``LARGE`` explanations they may be
    ``KEPT_SECONDS`` old."""
    rows = session.scalar(
        text("SELECT reltuples FROM pg_class WHERE oid = 'explanations'::regclass")
    )
    return _count(session, saes) if (rows or 0) < LARGE else _kept.count(session, saes)


def _count(session: Session, saes: Sequence[Sae]) -> Counts:
    """Features are counted where the index does not say how many it has: there may be millions."""
    ids = [sae.id for sae in saes]
    indexed = {sae.id: sae.index["features"] for sae in saes if sae.index and _notes_features(sae)}
    uncounted = [each for each in ids if each not in indexed]
    if uncounted:
        counted = (
            select(Feature.sae_id, func.count())
            .where(Feature.sae_id.in_(uncounted))
            .group_by(Feature.sae_id)
        )
        indexed |= dict(session.execute(counted).tuples().all())
    explained: dict[uuid.UUID, tuple[int, int]] = {}
    scorers: dict[uuid.UUID, dict[str, int]] = {each: {} for each in ids}
    for sae, scorer, whole, features, scored in session.execute(_worked_on(ids)):
        if whole:
            explained[sae] = (features, scored)
        elif scorer is not None:
            scorers[sae][scorer] = features
    return {
        each: FeatureCounts(
            indexed=indexed.get(each, 0),
            explained=explained.get(each, (0, 0))[0],
            scored=explained.get(each, (0, 0))[1],
            scorers=scorers[each],
        )
        for each in ids
    }


def _worked_on(ids: Sequence[uuid.UUID]) -> Select[Any]:
    """(SAE, scorer, whether of all scorers, features, those of them that have a score), scorers in
    the order of their names.

    One pass over explanations and scores, by hashes: counts of distinct values of the join would
    sort it once for each count.
    """
    score = and_(score_of(Explanation), Score.value.is_not(None))
    worked_on = (
        select(Explanation.sae_id, Explanation.feature, Score.scorer)
        .distinct()
        .outerjoin(Score, score)
        .where(Explanation.sae_id.in_(ids))
        .cte("worked_on")
        .prefix_with("MATERIALIZED")
    )
    sae, feature, scorer = worked_on.c
    features = func.count(feature.distinct())
    return (
        select(sae, scorer, func.grouping(scorer), features, features.filter(scorer.is_not(None)))
        .group_by(func.grouping_sets(tuple_(sae), tuple_(sae, scorer)))
        .order_by(sae, scorer)
    )


def _notes_features(sae: Sae) -> bool:
    noted = (sae.index or {}).get("features")
    return isinstance(noted, int) and not isinstance(noted, bool)
