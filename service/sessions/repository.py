"""All SQL on sessions of browsers."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from service.database.key_tables import ApiKey
from service.database.session_tables import BrowserSession
from service.keys.repository import LAST_USED_EVERY, usable
from service.kit.pagination import TimeKey, newest_first

IDLE = dt.timedelta(hours=12)
"""A session that was not used for so long has ended."""
LONGEST = dt.timedelta(days=7)
"""So long after its begin every session has ended."""


def add(
    session: Session, digest: str, key: ApiKey, scopes: list[str], client: str
) -> BrowserSession:
    """A new session; it ends with the key, and after ``LONGEST``."""
    row = BrowserSession(
        digest=digest,
        key_id=key.id,
        scopes=scopes,
        client=client,
        expires_at=func.now() + LONGEST,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return row


def _under_way() -> tuple[Any, ...]:
    return BrowserSession.expires_at > func.now(), BrowserSession.last_used_at > func.now() - IDLE


def find(session: Session, digest: str) -> tuple[BrowserSession, ApiKey] | None:
    """The session of this digest with its key, unless either has ended."""
    query = select(BrowserSession, ApiKey).join(ApiKey, ApiKey.id == BrowserSession.key_id)
    row = session.execute(
        query.where(BrowserSession.digest == digest, *_under_way(), *usable())
    ).one_or_none()
    return None if row is None else (row[0], row[1])


def is_under_way(session: Session, id: uuid.UUID) -> bool:
    """Whether the session has not ended; of its key it says nothing."""
    query = select(BrowserSession.id).where(BrowserSession.id == id, *_under_way())
    return session.scalar(query) is not None


def get(session: Session, id: uuid.UUID) -> BrowserSession | None:
    return session.get(BrowserSession, id)


def list_sessions(
    session: Session, key: uuid.UUID, before: TimeKey | None, limit: int
) -> Sequence[BrowserSession]:
    """Those of ``key`` that are under way, newest first."""
    query = select(BrowserSession).where(BrowserSession.key_id == key, *_under_way())
    return session.scalars(newest_first(query, BrowserSession, before, limit)).all()


def touch(session: Session, row: BrowserSession) -> None:
    session.execute(
        update(BrowserSession)
        .where(
            BrowserSession.id == row.id,
            BrowserSession.last_used_at < func.now() - LAST_USED_EVERY,
        )
        .values(last_used_at=func.now())
        .execution_options(synchronize_session=False)
    )


def remove(session: Session, id: uuid.UUID) -> None:
    _delete(session, BrowserSession.id == id)


def remove_by_digest(session: Session, digest: str) -> None:
    _delete(session, BrowserSession.digest == digest)


def count_ended(session: Session) -> int:
    query = select(func.count()).select_from(BrowserSession).where(_ended())
    return int(session.scalar(query) or 0)


def remove_ended(session: Session) -> int:
    """How many there were."""
    return _delete(session, _ended())


def _ended() -> Any:
    return or_(
        BrowserSession.expires_at <= func.now(), BrowserSession.last_used_at <= func.now() - IDLE
    )


def _delete(session: Session, condition: Any) -> int:
    statement = delete(BrowserSession).where(condition)
    result: Any = session.execute(statement.execution_options(synchronize_session=False))
    return int(result.rowcount)
