"""A few things that are slow to load, kept loaded within a budget."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(eq=False)
class _Kept(Generic[T]):
    size: int
    value: Future[T] = field(default_factory=Future)


class Warm(Generic[T]):
    """The most recently used values, by key, as far as the ``budget`` goes.  Thread-safe.

    ``measure`` says what a loaded value takes of it; without it each takes 1, so that the budget is
    a number of values.  Each is loaded once, however many ask for it at once, and while it loads
    nobody else waits.  What is let go is freed once nobody uses it any more.
    """

    def __init__(self, budget: int, measure: Callable[[T], int] = lambda _: 1) -> None:
        self.budget, self._measure = budget, measure
        self._kept: OrderedDict[Hashable, _Kept[T]] = OrderedDict()
        self._lock = threading.Lock()

    def get(
        self,
        key: Hashable,
        load: Callable[[], T],
        expected: int = 1,
        spare: Collection[Hashable] = (),
    ) -> T:
        """The value of ``key``; what ``load`` raises is raised to all who wait, and forgotten.

        Before it is loaded the least recently used are let go to make room for ``expected``, so
        that both need not fit, and again once its size is known.  Neither it nor ``spare`` is let
        go for it: what one request needs at once is kept even beyond the budget.
        """
        with self._lock:
            entry = self._kept.get(key)
            ours = entry is None
            if entry is None:
                entry = self._kept[key] = _Kept(expected)
            self._kept.move_to_end(key)
            self._shrink({key, *spare})
        if ours:
            try:
                value = load()
                size = self._measure(value)
            except BaseException as error:
                with self._lock:
                    if self._kept.get(key) is entry:
                        del self._kept[key]
                entry.value.set_exception(error)
            else:
                entry.value.set_result(value)
                with self._lock:
                    entry.size = size
                    used = self._shrink({key, *spare})
                if used > self.budget:
                    sizes = {"used": used, "budget": self.budget}
                    logger.warning("what one request needs exceeds the budget", extra=sizes)
        return entry.value.result()

    def loaded(self, key: Hashable) -> T | None:
        """The value of ``key`` if it is here, which does not count as a use."""
        with self._lock:
            entry = self._kept.get(key)
        if entry is None or not entry.value.done() or entry.value.exception() is not None:
            return None
        return entry.value.result()

    def let_go(self, spare: Collection[Hashable] = ()) -> int:
        """Lets go of everything but ``spare``; how much of the budget that was."""
        with self._lock:
            removed = [self._kept.pop(key) for key in list(self._kept) if key not in spare]
        return sum(entry.size for entry in removed)

    def values(self) -> list[T]:
        """Those that are loaded; looking is no use of them."""
        with self._lock:
            done = [entry.value for entry in self._kept.values() if entry.value.done()]
        return [value.result() for value in done if value.exception() is None]

    @property
    def used(self) -> int:
        """What the kept values take of the budget, those that load counted as expected."""
        with self._lock:
            return sum(entry.size for entry in self._kept.values())

    def _shrink(self, spare: Collection[Hashable]) -> int:
        """What is still used.  Called with the lock held."""
        used = sum(entry.size for entry in self._kept.values())
        for key in [key for key in self._kept if key not in spare]:
            if used <= self.budget:
                break
            used -= self._kept.pop(key).size
        return used
