"""How long tests wait, and the waiting."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

SOON = 20.0
"""Seconds: others may be using the machine.  What it is told apart from takes 30 and more."""


def wait_for(condition: Callable[[], Any], seconds: float = 20.0, pause: float = 0.02) -> Any:
    """The first true value of ``condition``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(pause)
    raise AssertionError(f"not within {seconds} seconds: {condition}")
