"""An SAE with all that is known of its features, deleted."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from monosemy.errors import ConflictError
from monosemy.specs.run_states import ENDED
from monosemy.specs.sets import SetPlace
from service.database.tables import Run, Sae
from service.runs.sources import saes_named, sets_named
from service.saes.repository import find_sae


def delete_sae(session: Session, reference: str) -> None:
    """Deletes an SAE's rows: features, explanations, scores, votes, tags, places in lists.  Its
    folder and its indexes are left to the garbage collection.

    404 if there is none, ``ConflictError`` while a run that has not ended works on it.
    """
    sae, _ = find_sae(session, reference)
    names = {str(sae.id), sae.name}
    place = SetPlace.of(sae.config.get("set"))
    in_set = set() if place is None else {place.name}
    unfinished = select(Run).where(Run.state.not_in(ENDED))
    for run in session.scalars(unfinished):
        works_on_it = not names.isdisjoint(saes_named(run.spec))
        works_on_its_set = not in_set.isdisjoint(sets_named(run.spec))
        if run.id == sae.run_id or works_on_it or works_on_its_set:
            raise ConflictError(
                f"The {run.kind} run {run.id}, which is {run.state}, works on '{sae.name}'; "
                "cancel it first."
            )
    session.execute(
        delete(Sae).where(Sae.id == sae.id).execution_options(synchronize_session=False)
    )
