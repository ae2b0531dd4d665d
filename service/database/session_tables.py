"""The table of sessions of browsers."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from service.database.tables import Base, id_column, now_column


class BrowserSession(Base):
    """A browser that somebody logged in with an API key; it goes with the key."""

    __tablename__ = "browser_sessions"
    id: Mapped[uuid.UUID] = id_column()
    """Names the session in listings; opens nothing."""
    digest: Mapped[str] = mapped_column(unique=True)
    """HMAC of what the cookie holds."""
    key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"))
    scopes: Mapped[list[Any]]
    """At most these; the key's own, as they are at each request, bound them too."""
    client: Mapped[str]
    """Address that it was begun from."""
    created_at: Mapped[dt.datetime] = now_column()
    last_used_at: Mapped[dt.datetime] = now_column()
    """To the minute."""
    expires_at: Mapped[dt.datetime]
    """At the latest; without use earlier."""
    __table_args__ = (Index("ix_browser_sessions_key", "key_id", "created_at", "id"),)
