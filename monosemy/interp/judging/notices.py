"""What a person should hear of while work goes on: long waits, and what an endpoint refuses."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

Tell = Callable[[str], None]

_SECONDS = 60.0
"""Between two notices about the same thing."""


class Notices:
    """Writes to the log, and to the listener (a run's events).  Never blocks."""

    def __init__(self) -> None:
        self.listener: Tell | None = None
        self._last_at: dict[str, float] = {}

    def tell(self, about: str, text: str) -> None:
        """Once a minute at most for each thing that it is ``about``."""
        now = time.monotonic()
        if now - self._last_at.get(about, float("-inf")) < _SECONDS:
            return
        self._last_at[about] = now
        log.warning("%s", text)
        if self.listener is not None:
            self.listener(text)
