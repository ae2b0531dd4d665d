"""A few things that are slow to load, kept loaded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Warm(Generic[T]):
    """The ``most`` recently used values, by key.  Thread-safe.

    Each is loaded once, however many ask for it at once, and while it loads nobody else waits.  The
    least recently used is let go before another is loaded, so that both need not fit in memory.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, Future[T]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, load: Callable[[], T]) -> T:
        """The value of ``key``; what ``load`` raises is raised to all who wait, and forgotten."""
        with self._lock:
            future = self._kept.get(key)
            ours = future is None
            if future is None:
                future = self._kept[key] = Future()
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        if ours:
            try:
                future.set_result(load())
            except BaseException as error:
                with self._lock:
                    if self._kept.get(key) is future:
                        del self._kept[key]
                future.set_exception(error)
        return future.result()
