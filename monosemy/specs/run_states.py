"""The states that a run may be in, and the sets of them that everybody asks about."""

from __future__ import annotations

from typing import Literal

RunState = Literal["queued", "running", "cancelling", "cancelled", "succeeded", "failed"]

HELD: frozenset[str] = frozenset({"running", "cancelling"})
"""A worker holds the run."""
ACTIVE: frozenset[str] = HELD | {"queued"}
"""The run has not ended."""
ENDED: frozenset[str] = frozenset({"cancelled", "succeeded", "failed"})
"""States that only ``retry`` leaves."""
RETRYABLE: frozenset[str] = ENDED - {"succeeded"}
"""Ended states that ``retry`` may leave."""


def state_in_words(state: str, error: str | None) -> str:
    """``failed: no room``, ``cancelled before it started``: the reason of a run's state with it,
    unless it says the state itself."""
    if error is None or not error.strip():
        return state
    return error if error.startswith(state) else f"{state}: {error}"


def ending_in_words(state: str, error: str | None) -> str:
    """The same as the end of a sentence on the run: ``was cancelled before it started``."""
    words = state_in_words(state, error)
    return f"was {words}" if state == "cancelled" else words
