"""Answers that go on for long end with the key, or the session, that asked for them."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import StreamingResponse

from service.concurrency.places import Lane
from service.database.session import transaction
from service.edge.context import AppContext
from service.keys import repository
from service.sessions import repository as sessions

EVERY_SECONDS = 2.0
"""How often a stream's key is looked at."""
_EVENTS = "text/event-stream"
_KEY_ENDED = "the API key was revoked or has expired"
_SESSION_ENDED = "the session has ended"


class KeyEnded(Exception):
    """The key or session of an answer under way has ended; what was sent of a file is not whole."""


def end_with_key(
    response: StreamingResponse,
    context: AppContext,
    key: uuid.UUID,
    browser: uuid.UUID | None = None,
) -> None:
    """Lets ``response`` end a few seconds after its key, or the session ``browser`` that it was
    asked for by: events with a comment, a file by a broken connection, since nobody must take a
    part for the whole."""

    def is_good() -> bool:
        try:
            with transaction(context.engine) as session:
                return repository.is_valid(session, key) and (
                    browser is None or sessions.is_under_way(session, browser)
                )
        except SQLAlchemyError:
            return True  # a database that is away for a moment ends no answer

    orderly = response.media_type == _EVENTS
    response.body_iterator = watched(
        response.body_iterator,
        is_good,
        orderly,
        lane=context.lanes.auth,
        why=_KEY_ENDED if browser is None else _SESSION_ENDED,
    )


async def watched(
    pieces: Any,
    is_good: Callable[[], bool],
    orderly: bool,
    every: float | None = None,
    lane: Lane | None = None,
    why: str = _KEY_ENDED,
) -> AsyncIterator[Any]:
    """``pieces`` while ``is_good``, which is asked every so many seconds, while none comes too.

    Raises ``KeyEnded`` then, unless ``orderly``.
    """
    every = EVERY_SECONDS if every is None else every
    lane = lane or Lane(1)
    source = aiter(pieces)
    asked = time.monotonic()
    following = asyncio.ensure_future(anext(source))
    try:
        while True:
            await asyncio.wait({following}, timeout=max(0.0, asked + every - time.monotonic()))
            if time.monotonic() - asked >= every:
                asked = time.monotonic()
                if not await lane.run(is_good):
                    if not orderly:
                        raise KeyEnded(why)
                    yield f": {why}\n\n"
                    return
            if following.done():
                try:
                    piece = following.result()
                except StopAsyncIteration:
                    return
                yield piece
                following = asyncio.ensure_future(anext(source))
    finally:
        following.cancel()
        with suppress(BaseException):
            await following
        with suppress(Exception):
            await source.aclose()
