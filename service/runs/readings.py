"""Readings of trainings: written while a run trains, read for as long as the run is there."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Integer, cast, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from monosemy.specs.readings import BASELINE_FVU, TrainingReading, stored_reading
from service.database import tables
from service.database.storable import storable
from service.database.tables import RunEvent
from service.runs import repository

_AT_ONCE = 5000
_TABLE = tables.TrainingReading


@dataclass
class Unwritten:
    """What a worker has not stored yet: written as a whole, or kept for the next time."""

    begun: dict[int, int] = field(default_factory=dict)
    """By place: the step that the training began at or goes on from; readings past it are void."""
    readings: dict[tuple[int, int], TrainingReading] = field(default_factory=dict)
    """By place and step."""


def write_readings(session: Session, run_id: uuid.UUID, owner: str, unwritten: Unwritten) -> bool:
    """Stores them; False, and nothing is, if ``owner`` does not hold the run any more."""
    if not repository.is_held(session, run_id, owner):
        return False
    for place, step in unwritten.begun.items():
        void = (_TABLE.run_id == run_id, _TABLE.place == place, _TABLE.step > step)
        session.execute(delete(_TABLE).where(*void))
    rows: list[dict[str, Any]] = [
        {"run_id": run_id, "place": place, "step": step, "reading": _storable(reading)}
        for (place, step), reading in unwritten.readings.items()
    ]
    new = insert(_TABLE)
    write = new.on_conflict_do_update(
        index_elements=["run_id", "place", "step"], set_={"reading": new.excluded.reading}
    )
    for start in range(0, len(rows), _AT_ONCE):
        session.execute(write, rows[start : start + _AT_ONCE])
    return True


def _storable(reading: TrainingReading) -> Any:
    return storable(reading.model_dump(mode="json", exclude_none=True))


@dataclass(frozen=True)
class Curve:
    """The readings of one SAE."""

    count: int = 0
    readings: tuple[TrainingReading, ...] = ()
    """By step, at most as many as were asked for."""


def stored_curves(
    session: Session, run_id: uuid.UUID, most: int, place: int | None = None, after: int = -1
) -> Mapping[int, Curve]:
    """By place, the readings of a run past step ``after``, evenly thinned to at most ``most`` each,
    the newest among them."""
    wanted = [_TABLE.run_id == run_id, _TABLE.step > after]
    if place is not None:
        wanted.append(_TABLE.place == place)
    numbered = select(
        _TABLE.place,
        _TABLE.step,
        _TABLE.reading,
        func.row_number()
        .over(partition_by=_TABLE.place, order_by=_TABLE.step.desc())
        .label("back"),
        func.count().over(partition_by=_TABLE.place).label("total"),
    ).where(*wanted)
    rows = numbered.subquery()
    # Counted from the end, so that the newest is always among them.
    every = cast(func.ceil(rows.c.total / float(most)), Integer)
    chosen = select(rows).where((rows.c.back - 1) % every == 0).order_by(rows.c.place, rows.c.step)
    counts: dict[int, int] = {}
    readings: dict[int, list[TrainingReading]] = defaultdict(list)
    for row in session.execute(chosen):
        counts[row.place] = row.total
        readings[row.place].append(stored_reading(row.reading))
    return {place: Curve(count, tuple(readings[place])) for place, count in counts.items()}


def curve_in_events(session: Session, run_id: uuid.UUID, most: int) -> Curve:
    """What a run of an earlier version told of its first SAE as progress; its steps are unknown."""
    events = (
        select(
            RunEvent.data,
            func.row_number().over(order_by=RunEvent.id.desc()).label("back"),
            func.count().over().label("total"),
        )
        .where(RunEvent.run_id == run_id)
        .where(RunEvent.type == "progress", RunEvent.data["stage"].astext == "train")
        .where(RunEvent.data["metrics"].has_key("fvu"))
        .subquery()
    )
    every = cast(func.ceil(events.c.total / float(most)), Integer)
    chosen = select(events).where((events.c.back - 1) % every == 0).order_by(events.c.back.desc())
    rows = session.execute(chosen).all()
    readings = []
    for row in rows:
        metrics = {key: row.data["metrics"][key] for key in _TOLD if key in row.data["metrics"]}
        readings.append(stored_reading({"tokens": row.data["done"], **metrics}))
    return Curve(rows[0].total if rows else 0, tuple(readings))


_TOLD = ("fvu", "l0", "dead", "dead_share", "loss", "learning_rate", "baseline_fvu", BASELINE_FVU)
"""Readings among the metrics of progress; ``buffer_filled`` is another."""
