"""One computation for all who ask at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """The result of ``compute``, which runs at most once at a time and is good for ``seconds``.

    Belongs to one event loop.  Whoever asks while it runs gets its result; a caller that goes away
    does not stop it.
    """

    def __init__(self, compute: Callable[[], Awaitable[T]], seconds: float) -> None:
        self._compute, self.seconds = compute, seconds
        self._flight: asyncio.Future[T] | None = None
        self._ended = 0.0

    async def get(self, patience: float | None = None, seconds: float | None = None) -> T:
        """``seconds``: for how long an earlier result is good enough for this caller.

        Raises what ``compute`` raised, and ``TimeoutError`` when it is not there after
        ``patience`` seconds; it goes on for those who ask later."""
        flight = self._flight
        if flight is not None and flight.done() and self._is_good(flight, seconds):
            return flight.result()
        if flight is None or flight.done():
            flight = self._flight = asyncio.ensure_future(self._compute())
            flight.add_done_callback(self._note)
        done, _ = await asyncio.wait([flight], timeout=patience)
        if not done:
            raise TimeoutError
        return flight.result()

    def _note(self, flight: asyncio.Future[T]) -> None:
        self._ended = time.monotonic()
        if not flight.cancelled():
            flight.exception()  # seen, also where everybody has gone

    def _is_good(self, flight: asyncio.Future[T], seconds: float | None) -> bool:
        failed = flight.cancelled() or flight.exception() is not None
        return not failed and time.monotonic() - self._ended < (
            self.seconds if seconds is None else seconds
        )
