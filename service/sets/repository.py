"""Reads of sets; what is of a set says so in its row's configuration (``workers/publish.py``)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import func, literal, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from monosemy.specs.sets import SetPlace
from service.database.tables import Model, Run, Sae
from service.models.repository import WITHOUT_TOKENS


class Member(NamedTuple):
    """An SAE of a set."""

    place: SetPlace
    sae: Sae
    host: Model


def evaluation_of(session: Session, saes: Sequence[uuid.UUID]) -> Run | None:
    """The newest run that has measured just these SAEs, in this order."""
    query = (
        select(Run)
        .where(
            Run.kind == "evaluate_set",
            Run.state == "succeeded",
            Run.result["saes"] == literal([str(each) for each in saes], JSONB),
        )
        .order_by(Run.finished_at.desc(), Run.id)
        .limit(1)
    )
    return session.scalars(query).first()


def members(
    session: Session, model: str | None = None, name: str | None = None
) -> dict[str, list[Member]]:
    """The SAEs of every set by its name, newest set first, each in the order of its places.

    ``model``: only those of the host model of this name; ``name``: only that set.
    """
    stored = Sae.config["set"]
    query: Any = (
        select(Sae, Model)
        .join(Model, Model.id == Sae.model_id)
        .options(WITHOUT_TOKENS)
        .where(func.jsonb_typeof(stored) == "object")
        .order_by(Sae.created_at.desc(), Sae.id)
    )
    if model is not None:
        query = query.where(Model.name == model)
    if name is not None:
        query = query.where(stored["name"].astext == name)
    sets: dict[str, list[Member]] = {}
    for sae, host in session.execute(query):
        place = SetPlace.of(sae.config["set"])
        if place is not None:
            sets.setdefault(place.name, []).append(Member(place, sae, host))
    return {each: sorted(rows, key=lambda row: row.place.place) for each, rows in sets.items()}
