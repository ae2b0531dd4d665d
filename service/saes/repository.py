"""Reads of SAEs."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from monosemy.specs.names import spellings
from service.database.tables import Model, Sae
from service.kit.errors import Conflict, Listing, NotFound
from service.kit.pagination import TimeKey, newest_first
from service.models.repository import WITHOUT_TOKENS, find_model


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


def newest_indexed(session: Session) -> tuple[Sae, Model] | None:
    """The newest SAE that is indexed, with its host model; None where none is."""
    query: Any = select(Sae, Model).join(Model, Model.id == Sae.model_id).options(WITHOUT_TOKENS)
    indexed = func.jsonb_typeof(Sae.index) == "object"  # "no index" is stored as JSON's null too
    row = session.execute(newest_first(query.where(indexed), Sae, None, 1)).first()
    return None if row is None else (row[0], row[1])


def ids_of_model(session: Session, name: str) -> list[uuid.UUID]:
    """The SAEs of the host model of this name; ``NotFound`` if there is no such model."""
    model = find_model(session, name)
    return list(session.scalars(select(Sae.id).where(Sae.model_id == model.id)))


def names_of(session: Session, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, str]:
    """Of those that are there."""
    wanted = set(ids)
    if not wanted:
        return {}
    query = select(Sae.id, Sae.name).where(Sae.id.in_(wanted))
    return dict(session.execute(query).tuples().all())
