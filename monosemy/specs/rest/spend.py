"""What was spent on judges, as the API shows it."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from monosemy.specs.described import Described

Grouping = Literal["run", "feature", "purpose", "model", "key", "day"]


class _View(Described):
    model_config = ConfigDict(from_attributes=True)


class SpendRow(_View):
    """Calls to judges, summed up."""

    group: str | None
    """What they have in common; null where it is not known any more."""
    name: str | None
    """Of the key or SAE, where there is one."""
    calls: int
    """HTTP requests that were sent."""
    answered: int
    failed: int
    """Without a usable answer: errors, time-outs."""
    unknown: int
    """Sent, and their end never entered: under way, or their worker died."""
    prompt_tokens: int
    cached_tokens: int
    """Of those, the ones the endpoint had in its cache."""
    completion_tokens: int
    cost: float
    """In the currency of the configured prices; calls of unknown end count with the most that they
    can have cost."""


class SpendTable(_View):
    by: Grouping
    items: list[SpendRow]
    """The dearest first, at most 1,000."""
    total: SpendRow
    """Over all calls that the filters let through."""
