"""What is to be labelled, in its order, with how far the caller has come."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

from sqlalchemy import ColumnElement, not_
from sqlalchemy.orm import Session

from monosemy.specs.rest.labelling import LabellingItem, LabellingMode, LabellingPage
from service.database.list_tables import ListEntry
from service.database.tables import Feature
from service.features.listing import FeatureFilter, FeatureListing, count_listed, indices_behind
from service.keys.authorize import Caller
from service.kit.pagination import Order, number_of, paged
from service.labelling import repository
from service.labelling.repository import Place
from service.saes.repository import names_of

Row = tuple[Place, float, int]
"""A feature, and what it is ordered by."""


def _read(key: str, number: int) -> tuple[float, int]:
    value = float.fromhex(key)
    if math.isnan(value):
        raise ValueError
    return value, number_of(2**31)(number)


_BY_PLACE: Order[Row, tuple[float, int]] = Order(
    (str, int), lambda row: (row[1].hex(), row[2]), _read
)


@dataclass(frozen=True)
class Work:
    """Which features are to be labelled, how, and by whom."""

    mode: LabellingMode
    caller: Caller
    list_id: uuid.UUID | None
    sae_id: uuid.UUID | None
    wanted: FeatureFilter
    """Which of the SAE's features, where no list is given."""
    todo: bool
    """Only what is not done yet."""


def labelling_page(session: Session, work: Work, cursor: str | None, limit: int) -> LabellingPage:
    """Of a list in its own order, or of an SAE's features in the order of a listing.  What is to be
    voted on or judged has an explanation by somebody else."""
    among = _explained(work)
    done = [*among, repository.is_done(work.mode, work.caller, *_columns(work))]
    left = [*among, not_(repository.is_done(work.mode, work.caller, *_columns(work)))]
    page = paged(
        ("labelling", work.mode, work.caller.name, str(work.list_id), str(work.sae_id), work.todo)
        + ((asdict(work.wanted),) if work.list_id is None else ()),
        _BY_PLACE,
        cursor,
        limit,
        partial(_rows, session, work, left if work.todo else among),
        partial(_items, session, work),
    )
    return LabellingPage(
        **dict(page), total=_count(session, work, among), done=_count(session, work, done)
    )


def labelling_item(session: Session, work: Work, place: Place) -> LabellingItem | None:
    """This feature, whether or not it is among ``work``; None for an SAE that there is not."""
    known = names_of(session, [place[0]])
    return _items(session, work, [(place, 0.0, 0)])[0] if known else None


def _columns(work: Work) -> tuple[object, object]:
    if work.list_id is not None:
        return ListEntry.sae_id, ListEntry.feature
    return Feature.sae_id, Feature.index


def _explained(work: Work) -> list[ColumnElement[bool]]:
    if work.mode == "write":
        return []
    return [repository.is_explained(work.caller, *_columns(work))]


def _rows(
    session: Session,
    work: Work,
    conditions: Sequence[ColumnElement[bool]],
    after: tuple[float, int] | None,
    limit: int,
) -> list[Row]:
    if work.list_id is not None:
        position = None if after is None else after[1]
        found = repository.entries(session, work.list_id, conditions, position, limit)
        return [((row.sae_id, row.feature), 0.0, row.position) for row in found]
    listing = _listing(session, work)
    keys = indices_behind(session, listing, after, limit, conditions)
    return [((listing.sae, index), key, index) for key, index in keys]


def _count(session: Session, work: Work, conditions: Sequence[ColumnElement[bool]]) -> int:
    if work.list_id is not None:
        return repository.count_entries(session, work.list_id, conditions)
    return count_listed(session, _listing(session, work), conditions)


def _listing(session: Session, work: Work) -> FeatureListing:
    assert work.sae_id is not None
    return work.wanted.of(session, work.sae_id)


def _items(session: Session, work: Work, rows: Sequence[Row]) -> list[LabellingItem]:
    places = [place for place, _, _ in rows]
    names = names_of(session, [sae_id for sae_id, _ in places])
    best = repository.best_explanations(session, work.caller, places)
    done = repository.done_among(session, work.mode, work.caller, places)
    return [
        LabellingItem(
            sae_id=sae_id,
            sae=names[sae_id],
            feature=feature,
            explanation=best.get((sae_id, feature)),
            done=(sae_id, feature) in done,
        )
        for sae_id, feature in places
    ]
