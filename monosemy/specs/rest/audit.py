"""The audit log: as the API shows it."""

from __future__ import annotations

import datetime as dt
import uuid

from pydantic import ConfigDict

from monosemy.specs.described import Described


class AuditView(Described):
    """A request that changed something, or tried to."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    created_at: dt.datetime
    key_id: uuid.UUID | None
    """The API key; null in open mode."""
    key_prefix: str | None
    client: str
    """Address that it came from."""
    method: str
    path: str
    route: str
    """The path with its parameters' names in place of their values."""
    status: int
    request_id: str
    """As in the `X-Request-ID` header and in the log."""
