"""All SQL on lists; nothing here commits.

Whoever changes a list or its entries locks the list's row first (``find_list(..., lock=True)``), so
that positions are given out by one transaction at a time.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, text, true, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from monosemy.specs.names import spellings
from service.database.list_tables import FeatureList, ListEntry
from service.database.tables import Feature, Sae
from service.features.heading import leading_of
from service.features.repository import best_of
from service.kit.pagination import TimeKey, newest_first

Place = tuple[uuid.UUID, int]
"""(SAE, feature)."""

_MOVE = text(
    """
    WITH moved AS (
        SELECT * FROM unnest(CAST(:saes AS uuid[]), CAST(:features AS integer[]))
            WITH ORDINALITY AS given(sae_id, feature, nth)
    ), ranked AS (
        SELECT entry.sae_id, entry.feature, moved.nth,
            row_number() OVER (
                PARTITION BY moved.nth IS NULL ORDER BY moved.nth, entry.position, entry.feature
            ) - 1 AS rank
        FROM feature_list_entries AS entry
        LEFT JOIN moved ON moved.sae_id = entry.sae_id AND moved.feature = entry.feature
        WHERE entry.list_id = :list
    ), placed AS (
        SELECT sae_id, feature,
            row_number() OVER (
                ORDER BY
                    CASE WHEN nth IS NOT NULL THEN 1 WHEN rank < :to THEN 0 ELSE 2 END, rank
            ) - 1 AS position
        FROM ranked
    )
    UPDATE feature_list_entries AS entry SET position = placed.position
    FROM placed
    WHERE entry.list_id = :list AND entry.sae_id = placed.sae_id
        AND entry.feature = placed.feature AND entry.position <> placed.position
    """
)


def add_list(session: Session, name: str, description: str, owner: str) -> FeatureList | None:
    """None when the name is taken."""
    list_id = session.scalar(
        insert(FeatureList)
        .values(id=uuid.uuid4(), name=name, description=description, owner=owner)
        .on_conflict_do_nothing(constraint="uq_feature_lists_name")
        .returning(FeatureList.id)
    )
    return None if list_id is None else session.get_one(FeatureList, list_id)


def find_list(session: Session, reference: str, lock: bool = False) -> FeatureList | None:
    """The list of this id or name, read anew when it is locked."""
    condition: ColumnElement[bool] = FeatureList.name.in_(spellings(reference))
    with suppress(ValueError):
        condition = or_(FeatureList.id == uuid.UUID(reference), condition)
    query = (
        select(FeatureList)
        .where(condition)
        .order_by(FeatureList.name.in_(spellings(reference)), FeatureList.name != reference)
    )
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    return session.scalars(query).first()


def list_lists(
    session: Session,
    owner: str | None,
    sae_id: uuid.UUID | None,
    feature: int | None,
    before: TimeKey | None,
    limit: int,
) -> Sequence[FeatureList]:
    """Newest first; ``sae_id``: only with features of this SAE, or with this one."""
    query = select(FeatureList)
    if owner is not None:
        query = query.where(FeatureList.owner == owner)
    if sae_id is not None:
        entries = select(ListEntry.list_id).where(ListEntry.sae_id == sae_id)
        if feature is not None:
            entries = entries.where(ListEntry.feature == feature)
        query = query.where(FeatureList.id.in_(entries))
    return session.scalars(newest_first(query, FeatureList, before, limit)).all()


def sizes(session: Session, lists: Sequence[uuid.UUID]) -> dict[uuid.UUID, int]:
    """Entries of each list that has any."""
    if not lists:
        return {}
    query = (
        select(ListEntry.list_id, func.count())
        .where(ListEntry.list_id.in_(lists))
        .group_by(ListEntry.list_id)
    )
    return dict(session.execute(query).tuples().all())


def set_columns(session: Session, row: FeatureList, **values: Any) -> None:
    """With the next revision; ``IntegrityError`` when the name is taken."""
    session.execute(
        update(FeatureList)
        .where(FeatureList.id == row.id)
        .values(**values, revision=FeatureList.revision + 1, changed_at=func.now())
        .execution_options(synchronize_session=False)
    )
    session.refresh(row)


@dataclass(frozen=True)
class Named:
    """An SAE that an entry names."""

    id: uuid.UUID
    d_sae: int
    indexed: bool


def resolve_saes(session: Session, references: set[str]) -> dict[str, Named]:
    """By reference, those there are; none is deleted until the transaction ends."""
    ids: dict[uuid.UUID, set[str]] = {}
    names: dict[str, set[str]] = {}
    for reference in references:
        for spelling in spellings(reference):
            names.setdefault(spelling, set()).add(reference)
        with suppress(ValueError):
            ids.setdefault(uuid.UUID(reference), set()).add(reference)
    query = (
        select(Sae.id, Sae.name, Sae.d_sae, Sae.index)
        .where(or_(Sae.id.in_(list(ids)), Sae.name.in_(sorted(names))))
        .order_by(Sae.id)
        .with_for_update(read=True, key_share=True)
    )
    rows = [
        (name, Named(sae_id, d_sae, index is not None))
        for sae_id, name, d_sae, index in session.execute(query).tuples()
    ]
    resolved: dict[str, Named] = {}
    # Of a name in another spelling, the very name, and an id, the later goes first.
    for name, sae in rows:
        resolved |= dict.fromkeys(names.get(name, ()), sae)
    for name, sae in rows:
        resolved |= {name: sae} if name in references else {}
    for _, sae in rows:
        resolved |= dict.fromkeys(ids.get(sae.id, ()), sae)
    return resolved


def add_entries(session: Session, list_id: uuid.UUID, entries: dict[Place, str | None]) -> int:
    """Puts these at the end, in their order; how many are new.  One that is there keeps its place,
    and its note unless another is given."""
    places = list(entries)
    there = set(
        session.execute(
            select(ListEntry.sae_id, ListEntry.feature).where(
                ListEntry.list_id == list_id,
                tuple_(ListEntry.sae_id, ListEntry.feature).in_(places),
            )
        ).tuples()
    )
    last = select(func.max(ListEntry.position)).where(ListEntry.list_id == list_id)
    following = session.scalar(last)
    first = 0 if following is None else following + 1
    new = [place for place in places if place not in there]
    if new:
        rows = [
            {
                "list_id": list_id,
                "sae_id": sae_id,
                "feature": feature,
                "note": entries[sae_id, feature] or "",
                "position": first + nth,
            }
            for nth, (sae_id, feature) in enumerate(new)
        ]
        session.execute(insert(ListEntry), rows)
    noted = [(*place, entries[place]) for place in there if entries[place] is not None]
    for sae_id, feature, note in noted:
        session.execute(
            update(ListEntry)
            .where(
                ListEntry.list_id == list_id,
                ListEntry.sae_id == sae_id,
                ListEntry.feature == feature,
            )
            .values(note=note)
            .execution_options(synchronize_session=False)
        )
    return len(new)


def remove_entries(session: Session, list_id: uuid.UUID, places: Sequence[Place]) -> int:
    """How many were there."""
    removed = session.execute(
        delete(ListEntry)
        .where(
            ListEntry.list_id == list_id, tuple_(ListEntry.sae_id, ListEntry.feature).in_(places)
        )
        .returning(ListEntry.feature)
        .execution_options(synchronize_session=False)
    )
    return len(removed.all())


def count_present(session: Session, list_id: uuid.UUID, places: Sequence[Place]) -> int:
    """How many of these are in the list."""
    query = select(func.count()).where(
        ListEntry.list_id == list_id, tuple_(ListEntry.sae_id, ListEntry.feature).in_(places)
    )
    return int(session.scalar(query) or 0)


def move_entries(session: Session, list_id: uuid.UUID, places: Sequence[Place], to: int) -> None:
    """Puts these together, in their order, behind the first ``to`` of the others; positions are
    0, 1, 2 ... afterwards."""
    session.execute(
        _MOVE,
        {
            "list": list_id,
            "saes": [str(sae_id) for sae_id, _ in places],
            "features": [feature for _, feature in places],
            "to": to,
        },
    )


def count_before(session: Session, list_id: uuid.UUID, position: int) -> int:
    """How many entries stand before a position."""
    query = select(func.count()).where(ListEntry.list_id == list_id, ListEntry.position < position)
    return int(session.scalar(query) or 0)


def entries_around(
    session: Session, list_id: uuid.UUID, sae_id: uuid.UUID, feature: int
) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
    """(SAE's name, feature) before and after an entry; both None where it is no entry."""
    own = session.scalar(
        select(ListEntry.position).where(
            ListEntry.list_id == list_id, ListEntry.sae_id == sae_id, ListEntry.feature == feature
        )
    )
    if own is None:
        return None, None
    query = (
        select(Sae.name, ListEntry.feature)
        .join(Sae, Sae.id == ListEntry.sae_id)
        .where(ListEntry.list_id == list_id)
        .limit(1)
    )
    position = ListEntry.position
    before = session.execute(query.where(position < own).order_by(position.desc())).first()
    after = session.execute(query.where(position > own).order_by(position)).first()
    return (
        None if before is None else (before[0], before[1]),
        None if after is None else (after[0], after[1]),
    )


def entries_of(session: Session, list_id: uuid.UUID, after: int | None, limit: int) -> list[Any]:
    """Rows with what ``EntryView`` shows, in order, behind the position ``after``."""
    query = (
        select(ListEntry.sae_id, ListEntry.feature, ListEntry.note, ListEntry.position)
        .where(ListEntry.list_id == list_id)
        .order_by(ListEntry.position)
        .limit(limit)
    )
    if after is not None:
        query = query.where(ListEntry.position > after)
    page = query.subquery("page")
    explanation, _, best = best_of(page.c.sae_id, page.c.feature, "detection")
    leading = leading_of(page.c.sae_id, page.c.feature)
    page_query = (
        select(
            page,
            Sae.name.label("sae"),
            Feature.label,
            Feature.density,
            Feature.max_activation,
            explanation.label.label("explanation"),
            leading,
        )
        .select_from(page)
        .join(Sae, Sae.id == page.c.sae_id)
        .outerjoin(Feature, and_(Feature.sae_id == page.c.sae_id, Feature.index == page.c.feature))
        .outerjoin(best, true())
        .outerjoin(leading, true())
        .order_by(page.c.position)
    )
    return list(session.execute(page_query))
