"""Answers that are sent while they are made, without a thread while nobody makes or takes them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import TypeVar

from anyio import CancelScope
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.concurrency.places import Lane, Places

T = TypeVar("T")


class HeldStream(StreamingResponse):
    """Lets go of what it ``held``, however it ends: also when the caller leaves before the first
    byte."""

    def __init__(
        self,
        content: AsyncIterator[str] | AsyncIterator[bytes],
        media_type: str,
        held: AsyncExitStack,
    ) -> None:
        super().__init__(content, media_type=media_type, headers={"X-Accel-Buffering": "no"})
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                await self._held.aclose()


class SharedGenerator(Iterator[T]):
    """A generator that several threads hold: to close it waits for the item that is being made."""

    def __init__(self, generator: Generator[T]) -> None:
        self._generator, self._lock = generator, threading.Lock()

    def __next__(self) -> T:
        with self._lock:
            return next(self._generator)

    def close(self) -> None:
        with self._lock:
            self._generator.close()


async def each_in(lane: Lane | Places, items: Iterator[T]) -> AsyncIterator[T]:
    """``items``, each of them made in a thread of ``lane``."""
    end = object()
    while (item := await lane.run(partial(next, items, end))) is not end:
        yield item  # type: ignore[misc]
