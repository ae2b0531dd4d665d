"""API keys, and what was done with them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import BigInteger, Identity, Index, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from service.database.tables import Base, id_column, now_column


class AuditEntry(Base):
    """A request that changed something, or was refused to."""

    __tablename__ = "audit_entries"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    created_at: Mapped[dt.datetime] = now_column()
    key_id: Mapped[uuid.UUID | None]
    """No foreign key: what a deleted key did stays known."""
    key_prefix: Mapped[str | None]
    client: Mapped[str]
    method: Mapped[str]
    path: Mapped[str]
    route: Mapped[str]
    status: Mapped[int] = mapped_column(SmallInteger)
    request_id: Mapped[str]
    __table_args__ = (Index("ix_audit_entries_key", "key_id", "id"),)


class ApiKey(Base):
    """An API key; only an HMAC of it is stored."""

    __tablename__ = "api_keys"
    id: Mapped[uuid.UUID] = id_column()
    name: Mapped[str]
    prefix: Mapped[str]
    """The first characters, to recognise a key by."""
    digest: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[Any]]
    created_at: Mapped[dt.datetime] = now_column()
    expires_at: Mapped[dt.datetime | None]
    revoked_at: Mapped[dt.datetime | None]
    last_used_at: Mapped[dt.datetime | None]
    max_running: Mapped[int | None]
    """At most so many of its runs under way at once."""
    requests_per_minute: Mapped[int | None]
