"""What rows and unfinished runs refer to."""

from __future__ import annotations

import json
import posixpath
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from monosemy.errors import MonosemyError, SpecError
from monosemy.specs import parse_stored_spec
from monosemy.specs.run_states import ENDED
from service.database.tables import Run, Sae

_LOCK_SECONDS = 5


@dataclass(frozen=True)
class References:
    """One moment of the database."""

    paths: frozenset[str]
    """Folders of SAEs and their current indexes, relative to the root."""
    saes: frozenset[str]
    """Ids of the SAEs there are."""
    texts: frozenset[str]
    """Ids of the texts that SAEs were trained on or are indexed over."""
    unfinished: int
    """Runs that have not ended, waiting ones included."""
    under_way: frozenset[str]
    """Ids of those runs, and of the SAEs that they will make."""
    specs: str
    """What those runs were asked for, as JSON."""
    unread: bool = False
    """Whether there are such runs whose specs cannot be read here, so that nobody knows what they
    will make: a kind of a plugin that is absent."""

    def named_by_a_run(self, name: str) -> bool:
        """Whether a run that has not ended is, makes or mentions this."""
        return any(each in name for each in self.under_way) or name in self.specs

    def holds(self, path: str) -> bool:
        """Whether a row refers to this path, to one below it or to one above."""
        return any(
            path == other or path.startswith(other + "/") or other.startswith(path + "/")
            for other in self.paths
        )


def read_references(session: Session) -> References:
    paths: set[str] = set()
    saes: set[str] = set()
    texts: set[str] = set()
    rows = session.execute(
        select(
            Sae.id,
            Sae.path,
            Sae.index["path"].astext,
            Sae.index["text_id"].astext,
            Sae.provenance["text"]["text_id"].astext,
        )
    )
    for sae_id, path, index, indexed, trained in rows:
        saes.add(str(sae_id))
        paths.update(posixpath.normpath(each) for each in (path, index) if each)
        texts.update(each for each in (indexed, trained) if each)
    open_runs = session.execute(select(Run.id, Run.spec).where(Run.state.not_in(ENDED))).all()
    under_way: set[str] = set()
    unread = False
    for run_id, stored in open_runs:
        under_way.add(str(run_id))
        try:
            under_way.update(map(str, parse_stored_spec(stored).sae_ids(run_id)))
        except SpecError:
            unread = True
    return References(
        paths=frozenset(paths),
        saes=frozenset(saes),
        texts=frozenset(texts),
        unfinished=len(open_runs),
        under_way=frozenset(under_way),
        specs=json.dumps([spec for _, spec in open_runs], ensure_ascii=False),
        unread=unread,
    )


def ended_runs(session: Session, names: Collection[str]) -> dict[str, tuple[str, float]]:
    """(state, seconds since its end) of each of these runs that has ended, the others that there
    are with a negative age; by id."""
    age: Any = func.extract("epoch", func.clock_timestamp() - Run.finished_at)
    query = select(Run.id, Run.state, age).where(Run.id.in_([uuid.UUID(name) for name in names]))
    return {
        str(run_id): (state, float(seconds) if state in ENDED and seconds is not None else -1.0)
        for run_id, state, seconds in session.execute(query)
    }


def hold_runs(session: Session) -> None:
    """Until the transaction ends no run begins, ends or is submitted, and no other collector gets
    here.  Raises ``MonosemyError`` when that cannot be had within some seconds."""
    session.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"))
    try:
        session.execute(text("LOCK TABLE runs, saes IN SHARE ROW EXCLUSIVE MODE"))
    except OperationalError as error:
        raise MonosemyError(
            "The runs are being changed by somebody else all the time.", "Try again later."
        ) from error
