"""Submissions that are made once: the header ``Idempotency-Key``.

Whoever sends a request again, because no answer came, gets the run of the first one.  The row is
written in the transaction that creates the run, so a request that comes meanwhile waits for it.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from typing import Annotated

from fastapi import Header
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from monosemy.errors import SpecError
from monosemy.specs import Part, parse_stored_spec
from monosemy.workspace import fingerprint
from service.database.tables import Run, Submission
from service.kit.errors import InvalidRequest, Unprocessable

KEPT = dt.timedelta(hours=24)
_KEY = re.compile(r"[\x21-\x7e]{1,200}")


IdempotencyKey = Annotated[
    str | None, Header(description="Sent again with the same key, a submission is made once.")
]


def submitted_before(
    session: Session, submitter: uuid.UUID | None, key: str, spec: Part
) -> uuid.UUID | None:
    """The run of an equal submission under this key; None takes the key for this one.

    Raises ``InvalidRequest`` for a malformed key, ``Unprocessable`` for one that was used for
    something else.
    """
    if not _KEY.fullmatch(key):
        raise InvalidRequest([("Idempotency-Key", "1 to 200 visible ASCII characters")])
    who = str(submitter or "")
    session.execute(delete(Submission).where(Submission.created_at < func.now() - KEPT))
    digest = fingerprint(spec.model_dump(mode="json"))
    inserted = session.execute(
        insert(Submission)
        .values(submitter=who, key=key, digest=digest)
        .on_conflict_do_nothing(constraint="pk_submissions")
        .returning(Submission.key)
    ).first()
    if inserted is not None:
        return None
    row = session.scalars(
        select(Submission).where(Submission.submitter == who, Submission.key == key)
    ).one()
    if row.digest != digest and not _asked_for(session, row.run_id, spec):
        raise Unprocessable(
            "This Idempotency-Key was sent with another body within the last 24 hours.",
            "Send a new key with a new submission.",
            code="idempotency-key-reused",
            title="The key stands for another submission",
        )
    return row.run_id


def _asked_for(session: Session, run_id: uuid.UUID | None, spec: Part) -> bool:
    """Whether the run's spec, as it is read today, is ``spec``: the version that took the first
    submission may have written it down, and so digested it, with other fields."""
    stored = session.scalar(select(Run.spec).where(Run.id == run_id))
    if stored is None:
        return False
    try:
        return parse_stored_spec(stored).model_dump(mode="json") == spec.model_dump(mode="json")
    except SpecError:
        return False


def remember_run(session: Session, submitter: uuid.UUID | None, key: str, run: uuid.UUID) -> None:
    """Says which run came of the submission."""
    session.execute(
        update(Submission)
        .where(Submission.submitter == str(submitter or ""), Submission.key == key)
        .values(run_id=run)
    )
