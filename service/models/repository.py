"""All SQL on host models.  The token table (0.5 MB each) is read only where it is asked for."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, defer

from service.database.tables import Model, Sae
from service.kit.errors import Listing, NotFound
from service.kit.pagination import TimeKey, newest_first

WITHOUT_TOKENS = defer(Model.token_bytes, raiseload=True)


def list_models(session: Session, before: TimeKey | None, limit: int) -> list[tuple[Model, int]]:
    """Newest first, each with its number of SAEs."""
    saes = select(func.count()).where(Sae.model_id == Model.id).scalar_subquery()
    query: Any = select(Model, saes).options(WITHOUT_TOKENS)
    return [(row[0], row[1]) for row in session.execute(newest_first(query, Model, before, limit))]


def find_model(session: Session, reference: str) -> Model:
    """The host model of this id or name; ``NotFound`` if there is none."""
    named = Model.name == reference
    with suppress(ValueError):
        named = or_(Model.id == uuid.UUID(reference), named)
    model = session.scalars(select(Model).options(WITHOUT_TOKENS).where(named)).first()
    if model is None:
        raise NotFound("host model", reference, Listing.MODELS)
    return model


def model_of_spec(session: Session, name: str) -> Model | None:
    """The newest host model that specs call ``name``, where there is one."""
    called = or_(Model.name == name, Model.spec["name"].astext == name)
    query = select(Model).options(WITHOUT_TOKENS).where(called)
    return session.scalars(query.order_by(Model.created_at.desc(), Model.id)).first()


def check_known(session: Session, name: str | None) -> None:
    """``NotFound`` for a host model that nothing here is of; None names none."""
    if name is not None and model_of_spec(session, name) is None:
        raise NotFound("host model", name, Listing.MODELS)


def token_bytes(session: Session, model_id: uuid.UUID) -> bytes:
    return session.execute(select(Model.token_bytes).where(Model.id == model_id)).scalar_one()
