"""API keys for tests that share a database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, update
from sqlalchemy.orm import Session

from service.database.key_tables import ApiKey
from service.keys.service import create_key


def fresh_key(session: Session, name: str, *rest: Any, **limits: Any) -> str:
    """As ``create_key``; a key of this name that an earlier test left is revoked."""
    session.execute(
        update(ApiKey)
        .where(ApiKey.name == name, ApiKey.revoked_at.is_(None))
        .values(revoked_at=func.now())
    )
    return create_key(session, name, *rest, **limits)
