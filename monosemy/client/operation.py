"""What keeps the service going: queues, API keys, costs, who changed what."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator, Sequence

from monosemy.client.library import SaeReference, sae_name
from monosemy.client.listing import listed
from monosemy.client.transport import Transport, segment
from monosemy.specs import parse_part
from monosemy.specs.rest.audit import AuditView
from monosemy.specs.rest.keys import KeyView, MadeKey, NewKey, Scope
from monosemy.specs.rest.queues import QueueChange, QueueName, Queues, QueueView
from monosemy.specs.rest.sessions import SessionView
from monosemy.specs.rest.spend import Grouping, SpendTable


class Operation:
    """``client.operation``; every method raises ``ApiError``.  But for ``queues``, ``spend``
    and ``sessions`` they are for administrators."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def queues(self) -> list[QueueView]:
        """Each with what waits and what runs."""
        return self._http.call(Queues, "GET", "/queues").items

    def change_queue(
        self, name: QueueName, *, paused: bool | None = None, max_running: int | None = None
    ) -> QueueView:
        """Pauses, resumes or limits it; ``max_running`` 0 takes the limit away."""
        given = {"paused": paused, "max_running": max_running}
        body = {key: value for key, value in given.items() if value is not None}
        parse_part(QueueChange, body)
        return self._http.call(QueueView, "PATCH", f"/queues/{segment(name)}", body)

    def spend(
        self,
        by: Grouping = "run",
        *,
        run: uuid.UUID | str | None = None,
        sae: SaeReference | None = None,
        since: dt.datetime | None = None,
    ) -> SpendTable:
        """What the judge was asked and what that cost, summed up; ``since`` has a time zone."""
        return self._http.call(
            SpendTable,
            "GET",
            "/spend",
            by=by,
            run=None if run is None else str(run),
            sae=None if sae is None else sae_name(sae),
            since=None if since is None else since.isoformat(),
        )

    def keys(self, limit: int | None = None) -> Iterator[KeyView]:
        """Newest first, those that were revoked or have expired too; never the keys themselves."""
        return listed(self._http, KeyView, "/keys", limit)

    def make_key(
        self,
        name: str,
        scopes: Sequence[Scope] = ("read",),
        *,
        expires_at: dt.datetime | None = None,
        max_running: int | None = None,
        requests_per_minute: int | None = None,
    ) -> MadeKey:
        """Its ``key`` is answered this once and stored only as a hash."""
        given = {
            "name": name,
            "scopes": [*scopes],
            "expires_at": expires_at,
            "max_running": max_running,
            "requests_per_minute": requests_per_minute,
        }
        return self._http.call(MadeKey, "POST", "/keys", parse_part(NewKey, given))

    def revoke_key(self, key: uuid.UUID | KeyView) -> None:
        """It ends the sessions that began with it, too."""
        self._http.delete(f"/keys/{segment(key.id if isinstance(key, KeyView) else key)}")

    def sessions(self, limit: int | None = None) -> Iterator[SessionView]:
        """Browsers that are logged in with this client's key, the newest first."""
        return listed(self._http, SessionView, "/sessions", limit)

    def audit(
        self, *, key: uuid.UUID | KeyView | None = None, limit: int | None = None
    ) -> Iterator[AuditView]:
        """Requests that changed something or tried to, newest first; ``key``: only of this one."""
        asked = key.id if isinstance(key, KeyView) else key
        return listed(
            self._http, AuditView, "/audit", limit, key=None if asked is None else str(asked)
        )
