"""Answers that go on for long end with the key that asked for them."""

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

EVERY_SECONDS = 2.0
"""How often a stream's key is looked at."""
_EVENTS = "text/event-stream"
_ENDED = ": the API key was revoked or has expired\n\n"


class KeyEnded(Exception):
    """The key of an answer under way is good no more; what was sent of a file is not whole."""


def end_with_key(response: StreamingResponse, context: AppContext, key: uuid.UUID) -> None:
    """Lets ``response`` end a few seconds after its key: events with a comment, a file by a broken
    connection, since nobody must take a part for the whole."""

    def is_good() -> bool:
        try:
            with transaction(context.engine) as session:
                return repository.is_valid(session, key)
        except SQLAlchemyError:
            return True  # a database that is away for a moment ends no answer

    orderly = response.media_type == _EVENTS
    response.body_iterator = watched(
        response.body_iterator, is_good, orderly, lane=context.lanes.auth
    )


async def watched(
    pieces: Any,
    is_good: Callable[[], bool],
    orderly: bool,
    every: float | None = None,
    lane: Lane | None = None,
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
                        raise KeyEnded("the API key was revoked or has expired")
                    yield _ENDED
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
