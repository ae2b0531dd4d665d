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
