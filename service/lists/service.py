"""Lists: found, changed by those who may, and their entries as views."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Engine, Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from monosemy.specs.rest.lists import (
    MOST_OF_A_LIST,
    EntriesChanged,
    EntryView,
    ExportFormat,
    FeatureReference,
    ListChange,
    ListDetail,
    ListSummary,
    NewEntry,
    NewList,
)
from service.database.list_tables import FeatureList
from service.database.session import transaction
from service.features.heading import heading_in
from service.keys.authorize import Caller
from service.keys.ownership import check_owner
from service.kit.csv_text import csv_lines
from service.kit.errors import Conflict, InvalidRequest, Listing, NameTaken, NotFound
from service.kit.pagination import Order, number_of, paged
from service.lists import repository

_BY_POSITION: Order[Any, int] = Order((int,), lambda row: (row.position,), number_of(2**31))
_EXPORTED_AT_ONCE = 1000
_NO_INDEX = "has no index yet, so no features to list: submit an index run first"
_COLUMNS = ("sae", "feature", "label", "explanation", "density", "max_activation", "note")


def require_list(session: Session, reference: str) -> FeatureList:
    """404 if there is none of this id or name."""
    row = repository.find_list(session, reference)
    if row is None:
        raise NotFound("list", reference, Listing.LISTS)
    return row


def lock_list(session: Session, reference: str, caller: Caller) -> FeatureList:
    """The list, for this caller to change; 403 if it belongs to somebody else."""
    row = repository.find_list(session, reference, lock=True)
    if row is None:
        raise NotFound("list", reference, Listing.LISTS)
    check_owner(caller, row.owner, f"the list '{row.name}'")
    return row


def make_list(session: Session, body: NewList, caller: Caller) -> ListSummary:
    row = repository.add_list(session, body.name, body.description, caller.name)
    if row is None:
        raise _name_taken(body.name)
    return summaries(session, [row])[0]


def change_list(session: Session, row: FeatureList, body: ListChange) -> ListSummary:
    """409 when the name is taken, or the list has changed since ``body.revision``."""
    if body.revision is not None and body.revision != row.revision:
        raise Conflict(
            f"It has revision {row.revision} now, not {body.revision}; read it again.",
            code="revision-conflict",
            title="The list has changed meanwhile",
        )
    values = body.model_dump(include={"name", "description"}, exclude_none=True)
    if values:
        try:
            with session.begin_nested():
                repository.set_columns(session, row, **values)
        except IntegrityError:
            raise _name_taken(str(body.name)) from None
    return summaries(session, [row])[0]


def _name_taken(name: str) -> NameTaken:
    return NameTaken(f"There is a list named '{name}' already.")


def summaries(session: Session, lists: Sequence[FeatureList]) -> list[ListSummary]:
    sizes = repository.sizes(session, [each.id for each in lists])
    return [
        ListSummary(
            **{
                name: getattr(each, name)
                for name in ListSummary.model_fields
                if name not in ("size",)
            },
            size=sizes.get(each.id, 0),
        )
        for each in lists
    ]


def _entries(session: Session, list_id: uuid.UUID, rows: Sequence[Row[Any]]) -> list[EntryView]:
    """Of rows that follow one another."""
    first = repository.count_before(session, list_id, rows[0].position) if rows else 0
    return [_entry(row, place) for place, row in enumerate(rows, first)]


def _entry(row: Row[Any], place: int) -> EntryView:
    heading = None if row.label is None else heading_in(row, row.label).text
    return EntryView.model_validate({**row._mapping, "heading": heading, "place": place})


def list_page(session: Session, row: FeatureList, cursor: str | None, limit: int) -> ListDetail:
    """The list with one page of its entries."""
    entries = paged(
        ("entries", str(row.id)),
        _BY_POSITION,
        cursor,
        limit,
        partial(repository.entries_of, session, row.id),
        partial(_entries, session, row.id),
    )
    return ListDetail(**dict(summaries(session, [row])[0]), entries=entries)


def add_entries(session: Session, row: FeatureList, entries: Sequence[NewEntry]) -> EntriesChanged:
    """422 for an SAE or a feature that does not exist, an SAE without index, and for a list that
    would grow too long."""
    notes: dict[repository.Place, str | None] = {}
    places = _places(session, entries, strict=True, indexed=True)
    for place, entry in zip(places, entries, strict=True):
        if place is not None:
            notes[place] = notes.get(place) if entry.note is None else entry.note
    added = repository.add_entries(session, row.id, notes)
    noted = any(note is not None for note in notes.values())
    change = _changed(session, row, added, touched=bool(added) or noted)
    if change.size > MOST_OF_A_LIST:
        raise InvalidRequest([("entries", f"a list holds at most {MOST_OF_A_LIST} features")])
    return change


def remove_entries(
    session: Session, row: FeatureList, entries: Sequence[FeatureReference]
) -> EntriesChanged:
    """What is not in the list, or nowhere at all, is passed over."""
    places = [place for place in _places(session, entries, strict=False) if place is not None]
    removed = repository.remove_entries(session, row.id, places) if places else 0
    return _changed(session, row, removed, touched=removed > 0)


def move_entries(
    session: Session, row: FeatureList, entries: Sequence[FeatureReference], to: int
) -> EntriesChanged:
    """422 for entries that are not in the list or are named twice."""
    places = [place for place in _places(session, entries, strict=True) if place is not None]
    if len(set(places)) < len(places):
        raise InvalidRequest([("entries", "an entry is named twice")])
    missing = len(places) - repository.count_present(session, row.id, places)
    if missing:
        raise InvalidRequest([("entries", f"{missing} of these are not in the list")])
    repository.move_entries(session, row.id, places, to)
    return _changed(session, row, len(places), touched=True)


def _changed(session: Session, row: FeatureList, number: int, touched: bool) -> EntriesChanged:
    if touched:
        repository.set_columns(session, row)
    size = repository.sizes(session, [row.id]).get(row.id, 0)
    return EntriesChanged(changed=number, size=size, revision=row.revision)


def _places(
    session: Session, entries: Sequence[FeatureReference], strict: bool, indexed: bool = False
) -> list[repository.Place | None]:
    """What each entry names; if ``strict``, 422 that says which name nothing, or, if ``indexed``,
    features that nothing is known of; else None there."""
    saes = repository.resolve_saes(session, {entry.sae for entry in entries})
    places: list[repository.Place | None] = []
    faults: list[tuple[str, str]] = []
    for nth, entry in enumerate(entries):
        sae = saes.get(entry.sae)
        if sae is None:
            faults.append((f"entries.{nth}.sae", f"there is no SAE '{entry.sae}'"))
            places.append(None)
            continue
        if entry.feature >= sae.d_sae:
            faults.append((f"entries.{nth}.feature", f"'{entry.sae}' has {sae.d_sae} features"))
        elif indexed and not sae.indexed:
            faults.append((f"entries.{nth}.sae", f"'{entry.sae}' {_NO_INDEX}"))
        places.append((sae.id, entry.feature))
    if strict and faults:
        raise InvalidRequest(faults[:20])
    return places


def export(engine: Engine, list_id: uuid.UUID, form: ExportFormat) -> Iterator[str]:
    """The entries as CSV with a header, or a JSON object a line; read from the database by pieces.

    An entry that moves meanwhile may come twice or not at all.
    """
    if form == "csv":
        yield csv_lines([_COLUMNS])
    after: int | None = None
    while True:
        with transaction(engine) as session:
            rows = repository.entries_of(session, list_id, after, _EXPORTED_AT_ONCE)
        if not rows:
            return
        after = rows[-1].position
        cells = [[getattr(row, name) for name in _COLUMNS] for row in rows]
        yield csv_lines(cells) if form == "csv" else _json_lines(cells)


def _json_lines(rows: Sequence[Sequence[Any]]) -> str:
    lines = (
        json.dumps(dict(zip(_COLUMNS, row, strict=True)), ensure_ascii=False) + "\n" for row in rows
    )
    return "".join(lines)
