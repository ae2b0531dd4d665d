"""Runs that are over, forgotten; what they made stays."""

from __future__ import annotations

import uuid

from sqlalchemy import delete
from sqlalchemy.orm import Session

from monosemy.errors import ConflictError
from monosemy.specs.run_states import ENDED
from service.database.tables import Run
from service.keys.authorize import Caller
from service.keys.ownership import check_owner
from service.kit.errors import Listing, NotFound
from service.runs import repository


def delete_run(session: Session, run_id: uuid.UUID, caller: Caller) -> None:
    """Deletes a run with its steps, events and spending; its SAE, explanations and scores stay,
    and its folder is left to the garbage collection.

    404 if there is none, 403 if somebody else submitted it, ``ConflictError`` for a step of a
    pipeline and for what has not ended.
    """
    run = repository.lock_run(session, run_id)
    if run is None:
        raise NotFound("run", run_id, Listing.RUNS)
    check_owner(caller, run.created_by, "the run")
    if run.parent_id is not None:
        raise ConflictError(f"The run is a step of the pipeline {run.parent_id}; delete that.")
    family = [run, *repository.children_of(session, run.id)]
    waiting = next((each for each in family if each.state not in ENDED), None)
    if waiting is not None:
        raise ConflictError(f"The {waiting.kind} run is {waiting.state}; cancel it first.")
    session.execute(
        delete(Run).where(Run.id == run.id).execution_options(synchronize_session=False)
    )
