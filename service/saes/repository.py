"""Reads of SAEs."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from monosemy.specs.names import spellings
from monosemy.specs.rest.saes import FeatureCounts
from service.database.tables import Explanation, Feature, Model, Sae, Score
from service.explanations.repository import score_of
from service.kit.errors import Conflict, Listing, NotFound
from service.kit.pagination import TimeKey, newest_first
from service.models.repository import WITHOUT_TOKENS


def named(reference: str) -> ColumnElement[bool]:
    """Condition on ``Sae``: its id or its unique name."""
    by_name = Sae.name.in_(spellings(reference))
    try:
        return or_(Sae.id == uuid.UUID(reference), by_name)
    except ValueError:
        return by_name


def nearest_named(reference: str) -> tuple[ColumnElement[bool], ...]:
    """Order of what ``named`` finds: the id, the very name, the name in another spelling.

    Names of old may look like another's id, or differ in spelling alone."""
    return Sae.name.in_(spellings(reference)), Sae.name != reference


def no_such_sae(reference: str) -> NotFound:
    return NotFound("SAE", reference, Listing.SAES)


def find_sae(session: Session, reference: str) -> tuple[Sae, Model]:
    """The SAE of this id or name with its host model; ``NotFound`` if there is none."""
    query = (
        select(Sae, Model)
        .join(Model, Model.id == Sae.model_id)
        .options(WITHOUT_TOKENS)
        .where(named(reference))
        .order_by(*nearest_named(reference))
    )
    row = session.execute(query).first()
    if row is None:
        raise no_such_sae(reference)
    return row[0], row[1]


def index_of(sae: Sae) -> dict[str, Any]:
    """What is noted of the SAE's index; ``Conflict`` where it is not indexed."""
    if sae.index is None:
        raise Conflict(
            f"'{sae.name}' is not indexed yet; submit an index run.",
            code="not-indexed",
            title="There is no index",
        )
    return sae.index


def list_saes(
    session: Session,
    model: str | None,
    site: str | None,
    before: TimeKey | None,
    limit: int,
) -> list[tuple[Sae, Model]]:
    """Newest first; ``model`` is a host model's name, ``site`` a place that is read."""
    query: Any = select(Sae, Model).join(Model, Model.id == Sae.model_id).options(WITHOUT_TOKENS)
    if model is not None:
        query = query.where(Model.name == model)
    if site is not None:
        reads = Sae.config["hooks"]["reads"].contains([{"site": site}])
        query = query.where(or_(Sae.site == site, reads))
    return [(row[0], row[1]) for row in session.execute(newest_first(query, Sae, before, limit))]


def ids_of_model(session: Session, name: str) -> list[uuid.UUID]:
    """The SAEs of the host model of this name; ``NotFound`` if there is no such model."""
    model = session.scalar(select(Model.id).where(Model.name == name))
    if model is None:
        raise NotFound("host model", name, Listing.MODELS)
    return list(session.scalars(select(Sae.id).where(Sae.model_id == model)))


def count_features(session: Session, saes: Sequence[Sae]) -> dict[uuid.UUID, FeatureCounts]:
    """How far the work on the features of each SAE has come; of all together four statements.

    Features are counted where the index does not say how many it has: there may be millions."""
    ids = [sae.id for sae in saes]
    noted = {sae.id: sae.index["features"] for sae in saes if sae.index and _notes_features(sae)}
    uncounted = [each for each in ids if each not in noted]
    indexed = (
        select(Feature.sae_id, func.count())
        .where(Feature.sae_id.in_(uncounted))
        .group_by(Feature.sae_id)
    )
    features = func.count(Explanation.feature.distinct())
    explained = select(Explanation.sae_id, features).where(Explanation.sae_id.in_(ids))
    with_score = explained.join(Score, score_of(Explanation)).where(Score.value.is_not(None))
    by_scorer = with_score.add_columns(Score.scorer).group_by(Explanation.sae_id, Score.scorer)
    scorers: dict[uuid.UUID, dict[str, int]] = {each: {} for each in ids}
    for sae, count, scorer in session.execute(by_scorer.order_by(Score.scorer)):
        scorers[sae][scorer] = count
    counts: list[dict[uuid.UUID, int]] = [
        {row[0]: row[1] for row in session.execute(query)}
        for query in (
            indexed,
            explained.group_by(Explanation.sae_id),
            with_score.group_by(Explanation.sae_id),
        )
    ]
    return {
        each: FeatureCounts(
            indexed=noted.get(each, counts[0].get(each, 0)),
            explained=counts[1].get(each, 0),
            scored=counts[2].get(each, 0),
            scorers=scorers[each],
        )
        for each in ids
    }


def _notes_features(sae: Sae) -> bool:
    noted = (sae.index or {}).get("features")
    return isinstance(noted, int) and not isinstance(noted, bool)
