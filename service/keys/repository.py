"""All SQL on API keys."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from service.database.key_tables import ApiKey
from service.kit.pagination import TimeKey, newest_first

_LOCK = 0x6D6E7384
"""Advisory lock of a key that is being made."""
LAST_USED_EVERY = dt.timedelta(minutes=1)
"""``last_used_at`` is written at most this often, or every read would be a write."""


def add(session: Session, key: ApiKey) -> None:
    session.add(key)
    session.flush()


def one_at_a_time(session: Session) -> None:
    """Waits for whoever else makes a key; until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def of_name(session: Session, name: str) -> ApiKey | None:
    """The newest key of this name that is not revoked, expired or not."""
    return session.scalars(
        select(ApiKey)
        .where(ApiKey.name == name, ApiKey.revoked_at.is_(None))
        .order_by(ApiKey.created_at.desc())
    ).first()


def get_valid(session: Session, digest: str) -> ApiKey | None:
    """The key of this digest unless it was revoked or has expired."""
    return session.scalar(select(ApiKey).where(ApiKey.digest == digest, *usable()))


def usable() -> tuple[Any, ...]:
    """Conditions on ``ApiKey``: neither revoked nor expired."""
    unexpired = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now())
    return ApiKey.revoked_at.is_(None), unexpired


def is_valid(session: Session, id: uuid.UUID) -> bool:
    """Whether the key is neither revoked nor expired."""
    return session.scalar(select(ApiKey.id).where(ApiKey.id == id, *usable())) is not None


def by_digest(session: Session, digest: str) -> ApiKey:
    """The key of this digest, which is there."""
    return session.scalars(select(ApiKey).where(ApiKey.digest == digest)).one()


def get(session: Session, id: uuid.UUID) -> ApiKey | None:
    return session.get(ApiKey, id)


def list_keys(session: Session, before: TimeKey | None, limit: int) -> Sequence[ApiKey]:
    """Newest first."""
    return session.scalars(newest_first(select(ApiKey), ApiKey, before, limit)).all()


def touch(session: Session, key: ApiKey) -> None:
    session.execute(
        update(ApiKey)
        .where(
            ApiKey.id == key.id,
            or_(
                ApiKey.last_used_at.is_(None),
                ApiKey.last_used_at < func.now() - LAST_USED_EVERY,
            ),
        )
        .values(last_used_at=func.now())
        .execution_options(synchronize_session=False)
    )


def all_keys(session: Session) -> Sequence[ApiKey]:
    return session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)).all()


def matching(session: Session, prefix_or_name: str) -> Sequence[ApiKey]:
    """Keys that are not revoked whose id, prefix or name is exactly this."""
    conditions = [ApiKey.prefix == prefix_or_name, ApiKey.name == prefix_or_name]
    with suppress(ValueError):
        conditions.append(ApiKey.id == uuid.UUID(prefix_or_name))
    return session.scalars(
        select(ApiKey).where(or_(*conditions), ApiKey.revoked_at.is_(None))
    ).all()


def revoke(session: Session, key: ApiKey) -> None:
    session.execute(update(ApiKey).where(ApiKey.id == key.id).values(revoked_at=func.now()))
    session.refresh(key)
