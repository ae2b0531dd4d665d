"""How many of a run's attempts count against it, read from its events.

A worker that is lost is mostly the machine's doing (a kill, a power cut, a preempted node), and a
run that gets further each time may lose any number of them.  One that gets no further kills them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.database.tables import Run, RunEvent


def reached(run: Run) -> list[int]:
    """How far the run's latest attempt has come, to be compared: stages finished, work done of the
    next."""
    finished = any(stage.get("stage") == run.progress.get("stage") for stage in run.stages)
    return [len(run.stages), 0 if finished else int(run.progress.get("done") or 0)]


def lost_in_vain(session: Session, run: Run) -> int:
    """Workers lost in a row, the present one included, without getting further than any before."""
    takeovers = [data["reached"] for data in _states(session, run) if data.get("takeover")]
    return _in_vain([*takeovers, reached(run)])


def failures(session: Session, run: Run) -> int:
    """Attempts that ended in an error that may pass."""
    return sum(data["state"] == "queued" and "error" in data for data in _states(session, run))


def _in_vain(marks: Sequence[list[int]]) -> int:
    """``[3], [5], [4], [5]`` gives 3: the first 5 was further, what follows was not."""
    best, in_vain = [-1, -1], 0
    for mark in marks:
        in_vain = 1 if mark > best else in_vain + 1
        best = max(best, mark)
    return in_vain


def _states(session: Session, run: Run) -> list[dict[str, Any]]:
    """The run's changes of state since somebody last retried it, in order."""
    query = (
        select(RunEvent.data)
        .where(RunEvent.run_id == run.id, RunEvent.type == "state")
        .order_by(RunEvent.id)
    )
    states: list[dict[str, Any]] = []
    for data in session.scalars(query):
        if data.get("retried"):
            states.clear()
        states.append(data)
    return states
