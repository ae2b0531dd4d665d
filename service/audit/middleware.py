"""Enters every request that changes something, once it is answered."""

from __future__ import annotations

import logging

from anyio.to_thread import run_sync
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monosemy.redaction import without_keys
from service.context import AppContext
from service.database.session import transaction
from service.database.tables import AuditEntry

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_READS = ("/inference/",)
"""Sent with a body, but changing nothing."""
_LONGEST = 500

logger = logging.getLogger(__name__)


class AuditLog:
    """Who, what, from where and how it ended; never a body.  Refused requests stand there too, if
    they bore a key that was recognised or needed none."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in WRITES:
            await self.app(scope, receive, send)
            return
        status: list[int] = []

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])
            await send(message)

        await self.app(scope, receive, noting)
        if status and status[0] != 401 and not any(part in scope["path"] for part in _READS):
            await run_sync(_enter, scope, status[0])


def _enter(scope: Scope, status: int) -> None:
    from service.middleware import route_template

    context: AppContext = scope["app"].state.context
    state = scope.get("state", {})
    entry = AuditEntry(
        key_id=state.get("key_id"),
        key_prefix=state.get("key_prefix"),
        client=str((scope.get("client") or ("unix",))[0]),
        method=scope["method"],
        path=without_keys(scope["path"].replace("\x00", "\ufffd"))[:_LONGEST],
        route=route_template(scope)[:_LONGEST],
        status=status,
        request_id=state.get("request_id", ""),
    )
    try:
        with transaction(context.engine) as session:
            session.add(entry)
    except SQLAlchemyError:
        # The request is answered: it must not fail for this.
        logger.exception("an audit entry is lost", extra={"path": entry.path, "status": status})
