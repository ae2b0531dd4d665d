"""Places of the indexed text as people read them, with what a feature does there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from monosemy.specs.rest.provenance import TextWindow
from monosemy.workspace import Workspace
from service.database.tables import Model, Sae
from service.exports.activations import OpenIndex, open_index
from service.features.examples import significant
from service.features.repository import TextRow, contexts_of
from service.kit.errors import Conflict, NotFound
from service.models.tokens import TokenTables

RADIUS = 16
"""Tokens shown on either side, where nobody noted how many were."""


@dataclass(frozen=True)
class Place:
    """A token of the token store."""

    row: int
    position: int
    document: int | None = None


def windows(
    session: Session,
    tables: TokenTables,
    workspace: Workspace,
    sae: Sae,
    feature: int,
    places: Sequence[Place],
    radius: int = RADIUS,
) -> list[TextWindow]:
    """The text around each of ``places``, as far as the row goes.

    Rows that are not in the database are read from the token store, where its files are at hand;
    so are activations.
    """
    model = session.get_one(Model, sae.model_id)
    table = tables.of(session, model)
    text_id = str((sae.index or {}).get("text_id"))
    rows = contexts_of(session, text_id, sorted({place.row for place in places}))
    index = None
    with suppress(NotFound, Conflict):
        index = open_index(workspace, sae)
    shown = []
    pieces: dict[int, tuple[list[int], list[str]]] = {}
    for place in places:
        row = rows.get(place.row) or _stored_row(index, place.row)
        if row is None:
            shown.append(_nothing(place))
            continue
        if place.row not in pieces:
            ids = np.frombuffer(row.token_ids, "<u4").tolist()
            pieces[place.row] = ids, table.pieces(ids)
        shown.append(_window(place, row, *pieces[place.row], radius, index, feature))
    return shown


def _window(
    place: Place,
    row: TextRow,
    ids: list[int],
    texts: list[str],
    radius: int,
    index: OpenIndex | None,
    feature: int,
) -> TextWindow:
    focus = place.position - row.start
    if not 0 <= focus < len(ids):
        return _nothing(place)
    first, last = max(0, focus - radius), min(len(ids), focus + radius + 1)
    values = None
    if index is not None:
        values = _activations(index, feature, row.start + first, row.start + last)
    return TextWindow(
        row=place.row,
        position=place.position,
        document=place.document,
        document_name=row.document_name,
        tokens=texts[first:last],
        token_ids=ids[first:last],
        focus=focus - first,
        activations=values,
    )


def _activations(index: OpenIndex, feature: int, start: int, end: int) -> list[float]:
    firings = index.reader.firings(feature)
    low, high = firings.between(np.array([start]), np.array([end]))
    which = slice(int(low[0]), int(high[0]))
    values = [0.0] * (end - start)
    for position, value in zip(firings.positions[which], firings.values(which), strict=True):
        values[int(position) - start] = significant(float(value))
    return values


def _stored_row(index: OpenIndex | None, number: int) -> TextRow | None:
    if index is None or not 0 <= number < len(index.store.row_start) - 1:
        return None
    store = index.store
    start, end = int(store.row_start[number]), int(store.row_start[number + 1])
    ids = np.asarray(store.tokens[start:end], dtype="<u4").tobytes()
    return TextRow(start, ids, store.document_names[int(store.row_document[number])])


def _nothing(place: Place) -> TextWindow:
    return TextWindow(
        row=place.row,
        position=place.position,
        document=place.document,
        document_name=None,
        tokens=[],
        token_ids=[],
        focus=0,
        activations=None,
    )
