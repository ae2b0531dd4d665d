"""Reads and writes of judges' tests."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from monosemy.interp.judge_test.result import Role, RoleTest
from service.database.judge_tables import JudgeTest
from service.database.storable import storable

MOST_ROWS = 1000


def kept_test(session: Session, key: str) -> RoleTest | None:
    """The test under ``key``."""
    row = session.get(JudgeTest, key)
    return None if row is None else RoleTest.from_dict(row.result)


def keep_test(
    session: Session,
    key: str,
    test: RoleTest,
    endpoint: str,
    model: str,
    prompt: str,
    run_id: uuid.UUID | None = None,
) -> None:
    """Stores a test; one that was there under ``key`` is replaced."""
    values = {
        "role": test.role,
        "endpoint": endpoint,
        "model": model,
        "prompt": prompt,
        "result": storable(test.as_dict()),
        "run_id": run_id,
    }
    session.execute(delete(JudgeTest).where(JudgeTest.key == key))
    session.execute(insert(JudgeTest).values(key=key, **values).on_conflict_do_nothing())


def tests_of(
    session: Session,
    endpoint: str | None = None,
    model: str | None = None,
    role: Role | None = None,
) -> Sequence[JudgeTest]:
    """The newest first, at most ``MOST_ROWS``."""
    query = select(JudgeTest).order_by(JudgeTest.created_at.desc(), JudgeTest.key)
    filters = {JudgeTest.endpoint: endpoint, JudgeTest.model: model, JudgeTest.role: role}
    conditions = [column == value for column, value in filters.items() if value is not None]
    return session.scalars(query.where(*conditions).limit(MOST_ROWS)).all()


def forget_test(session: Session, key: str) -> bool:
    """Whether there was one: its judge is tested anew by the next run."""
    deleted = session.execute(delete(JudgeTest).where(JudgeTest.key == key))
    return bool(deleted.rowcount)  # type: ignore[attr-defined]
