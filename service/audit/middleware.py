"""Enters every request that changes something, as it is answered."""

from __future__ import annotations

import logging

from anyio.to_thread import run_sync
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monosemy.redaction import without_keys
from service.database.key_tables import AuditEntry
from service.database.session import transaction
from service.edge.context import AppContext
from service.edge.middleware import method_label, route_template
from service.edge.origin import READING_METHODS
from service.edge.routing import changes_something

_LONGEST = 500

logger = logging.getLogger(__name__)


class AuditLog:
    """Who, what, from where and how it ended; never a body.  Refused requests are entered too, if
    they had a key that was recognised or needed none; logins always, once the address was found to
    be within its rate (``entered_anyway``).

    What changes something is what reaches a route that does not say that it only reads.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READING_METHODS:
            await self.app(scope, receive, send)
            return
        entry = _Entry(scope, send)
        await self.app(scope, receive, entry.send)
        await entry.enter()


class _Entry:
    """That of one request.  It is there before the answer has ended: whoever has the answer finds
    it, and no answer goes out whose entry is lost with the process."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope, self._send = scope, send
        self._status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            await self.enter()
        await self._send(message)

    async def enter(self) -> None:
        """Once, if there is anything to enter; also where the caller hung up."""
        status, self._status = self._status, None
        if status is not None and changes_something(self._scope) and _is_known(self._scope):
            await run_sync(_enter, self._scope, status)


def _is_known(scope: Scope) -> bool:
    """Whether the caller's key was recognised, or none is asked for: a caller without a
    key adds no entries but those of logins."""
    context: AppContext = scope["app"].state.context
    state = scope.get("state", {})
    known = state.get("key_id") is not None or state.get("entered_anyway", False)
    return not context.settings.require_keys or known


def _enter(scope: Scope, status: int) -> None:
    context: AppContext = scope["app"].state.context
    state = scope.get("state", {})
    entry = AuditEntry(
        key_id=state.get("key_id"),
        key_prefix=state.get("key_prefix"),
        client=str((scope.get("client") or ("unix",))[0]),
        method=method_label(scope),
        path=without_keys(scope["path"].replace("\x00", "\ufffd"))[:_LONGEST],
        route=route_template(scope)[:_LONGEST],
        status=status,
        request_id=state.get("request_id", ""),
    )
    try:
        with transaction(context.engine) as session:
            session.add(entry)
    except SQLAlchemyError:
        # The request is done: its answer must not fail for this.
        logger.exception("an audit entry is lost", extra={"path": entry.path, "status": status})
