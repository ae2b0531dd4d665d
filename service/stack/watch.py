"""Starts parts in order, starts again those that crash, stops them in reverse order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from service.stack.processes import Part, wait_ready

EventHandler = Callable[[str, str], None]
"""``(name of the part, what happened)``."""

STOP_SECONDS = 15.0
WATCH_SECONDS = 0.3
FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 30.0
STEADY_SECONDS = 60.0
"""A part that ran for so long starts over at the first backoff."""


def ignore_event(name: str, text: str) -> None:
    """For who does not ask."""


class Watch:
    """The running parts.  ``on_change`` is called after a part got a new process id."""

    def __init__(self, on_event: EventHandler, on_change: Callable[[], None]) -> None:
        self.parts: list[Part] = []
        self._on_event = on_event
        self._on_change = on_change
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failures: dict[str, int] = {}
        self._launched: dict[str, float] = {}
        self._due: dict[str, float] = {}

    def start(self, parts: Sequence[Part]) -> None:
        """All of ``parts`` at once; returns when each is ready.  What started stays for ``stop``.

        Raises ``MonosemyError`` when one of them ends or is not ready in time.
        """
        began = time.monotonic()
        for part in parts:
            self._on_event(part.name, "starting")
            self.parts.append(part)
            part.launch()
            self._launched[part.name] = time.monotonic()
        for part in parts:
            wait_ready(part)
            self._on_event(part.name, f"ready after {time.monotonic() - began:.1f} s")

    def watch(self) -> None:
        """From now on a part that ends is started again, later each time that it ends early."""
        self._thread = threading.Thread(target=self._run, name="stack-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends every part: programs together, within ``STOP_SECONDS``, then the servers.

        Safe to call twice.
        """
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        parts, self.parts = self.parts[::-1], []
        for part in parts:
            part.ask_to_stop()
        deadline = time.monotonic() + STOP_SECONDS
        for part in parts:
            part.stop(max(0.0, deadline - time.monotonic()))
            self._on_event(part.name, "stopped")

    def _run(self) -> None:
        while not self._stopping.wait(WATCH_SECONDS):
            for part in self.parts:
                if not part.running and not self._stopping.is_set():
                    self._mend(part)

    def _mend(self, part: Part) -> None:
        """First sight of an ended part sets the time of its restart; a later one restarts it."""
        now = time.monotonic()
        if part.name not in self._due:
            steady = now - self._launched.get(part.name, now) > STEADY_SECONDS
            failures = 0 if steady else self._failures.get(part.name, 0)
            wait = min(FIRST_BACKOFF * 2**failures, LONGEST_BACKOFF)
            self._failures[part.name] = failures + 1
            self._due[part.name] = now + wait
            self._on_event(part.name, f"ended; starting again in {wait:.0f} s, see {part.log}")
        elif now >= self._due[part.name]:
            del self._due[part.name]
            self._launched[part.name] = time.monotonic()
            try:
                part.launch()
            except Exception as error:
                # Whatever it is (full disk, no memory), the next try may succeed.
                self._on_event(part.name, f"did not start: {error}")
                return
            self._on_event(part.name, "started again")
            self._on_change()
