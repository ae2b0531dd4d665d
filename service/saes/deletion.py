"""An SAE with all that is known of its features, deleted."""

from __future__ import annotations

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from monosemy.errors import ConflictError
from monosemy.specs.run_states import ENDED
from service.database.tables import Run, Sae
from service.saes.repository import find_sae


def delete_sae(session: Session, reference: str) -> None:
    """Deletes an SAE's rows: features, explanations, scores, votes, tags, places in lists.  Its
    folder and its indexes are left to the garbage collection.

    404 if there is none, ``ConflictError`` while a run that has not ended works on it.
    """
    sae, _ = find_sae(session, reference)
    names = (str(sae.id), sae.name)
    busy = session.execute(
        select(Run.id, Run.kind, Run.state)
        .where(
            Run.state.not_in(ENDED),
            or_(
                Run.id == sae.run_id,
                Run.spec["sae"].astext.in_(names),
                Run.spec["other"].astext.in_(names),
            ),
        )
        .limit(1)
    ).first()
    if busy is not None:
        run_id, kind, state = busy
        raise ConflictError(
            f"The {kind} run {run_id}, which is {state}, works on '{sae.name}'; cancel it first."
        )
    session.execute(
        delete(Sae).where(Sae.id == sae.id).execution_options(synchronize_session=False)
    )
