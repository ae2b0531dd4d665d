"""Bodies of requests: bounded in size, announced or not, and in how slowly they may come."""

from __future__ import annotations

import time

from anyio import fail_after
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.kit.problems import Problem

IDLE_SECONDS = 30.0
LEAST_RATE = 1024.0
_MOST_DIGITS = 18


def check_declared(headers: Headers, limit: int) -> None:
    """413 for a body that is announced to be longer than ``limit``."""
    declared = headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > _MOST_DIGITS or int(declared) > limit):
        raise _too_large(limit)


def bounded(
    receive: Receive,
    limit: int,
    idle_seconds: float = IDLE_SECONDS,
    least_rate: float = LEAST_RATE,
) -> Receive:
    """Hands on a body of at most ``limit`` bytes; 413 beyond, whatever was announced.

    408 for one that stalls: no byte for ``idle_seconds``, or after these less than ``least_rate``
    bytes a second on average.
    """
    seen, waited, whole = 0, 0.0, False

    async def limited() -> Message:
        nonlocal seen, waited, whole
        if whole:  # what comes now is the news that the caller has gone
            return await receive()
        started = time.monotonic()
        try:
            with fail_after(idle_seconds):
                message = await receive()
        except TimeoutError:
            raise _too_slow() from None
        # Only the time spent waiting for the caller counts, not what is done with the bytes.
        waited += time.monotonic() - started
        seen += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if seen > limit:
            raise _too_large(limit)
        if not whole and waited > idle_seconds and seen < waited * least_rate:
            raise _too_slow()
        return message

    return limited


class BodyLimit:
    """The same around a whole app, for servers whose routes are all alike."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            check_declared(Headers(scope=scope), self.limit)
            receive = bounded(receive, self.limit)
        await self.app(scope, receive, send)


def _too_large(limit: int) -> Problem:
    return Problem(
        413,
        "content-too-large",
        "Content too large",
        f"A request body may have at most {limit} bytes.",
    )


def _too_slow() -> Problem:
    return Problem(
        408,
        "body-too-slow",
        "The body came too slowly",
        "The body of the request stalled before it was whole. Send it again.",
        headers={"Connection": "close"},
    )
