"""What calls to a judge are entered into: a ledger with a budget, and answers worth keeping.

An entry is made before its request is sent, so that no call is ever missing from the ledger, also
of a process that died while it waited.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from monosemy.errors import JudgeError
from monosemy.specs.parts import PriceSpec


class BudgetSpent(JudgeError):
    """The run's budget allows no further call; what is done stays."""


@dataclass(frozen=True)
class About:
    """What calls are made for."""

    purpose: str = "probe"
    """An explainer's or scorer's name."""
    feature: int | None = None


NOTHING = About()
ABOUT: ContextVar[About] = ContextVar("judge_call_about", default=NOTHING)


@contextmanager
def about(purpose: str, feature: int | None) -> Iterator[None]:
    """Calls made within, also by tasks that are started within, are for this feature."""
    token = ABOUT.set(About(purpose, feature))
    try:
        yield
    finally:
        ABOUT.reset(token)


@dataclass(frozen=True)
class Intent:
    """A call about to be made, with the most it can cost."""

    model: str
    prompt_tokens: int
    completion_tokens: int
    about: About = field(default_factory=ABOUT.get)

    @property
    def expected_tokens(self) -> int:
        """Estimated tokens: four bytes of prompt a token, and the longest answer."""
        return self.prompt_tokens // 4 + self.completion_tokens


@dataclass(frozen=True)
class Outcome:
    """How a call ended.  ``status`` None: no HTTP answer came."""

    status: int | None
    tokens: tuple[int, int, int] | None = None
    """Of the prompt, of its cached part, of the answer; None where the endpoint does not say."""

    @property
    def answered(self) -> bool:
        return self.status is not None and self.status < 300

    def cost(self, intent: Intent, price: PriceSpec) -> float:
        """Nothing for a refused call; the most it can have cost where nobody knows, as after a
        time-out."""
        if self.tokens is not None:
            return cost_of(price, *self.tokens)
        return most(intent, price) if self.answered or self.status is None else 0.0


class Ledger(Protocol):
    """Where calls and answers are entered."""

    price: PriceSpec

    async def open(self, intent: Intent) -> uuid.UUID:
        """Enters a call; may wait for calls under way to end.  Raises ``BudgetSpent``."""

    async def close(self, call: uuid.UUID, outcome: Outcome) -> None:
        """Enters how it ended."""

    async def taken_over(self, calls: Sequence[str]) -> None:
        """Strikes calls, by the id they were sent with, whose answers other calls of this ledger
        wait for: one answer is paid for once.  Passes over those that are not open here."""

    async def recall(self, key: str) -> dict[str, Any] | None:
        """The answer kept under ``key``."""

    async def remember(self, key: str, answer: dict[str, Any]) -> None:
        """Keeps an answer that was of use."""


def cost_of(
    price: PriceSpec, prompt_tokens: int, cached_tokens: int, completion_tokens: int
) -> float:
    """In the currency of ``price``; cached tokens are among the prompt's."""
    cached = price.input if price.cached is None else price.cached
    fresh = prompt_tokens - cached_tokens
    return (fresh * price.input + cached_tokens * cached + completion_tokens * price.output) / 1e6


def most(intent: Intent, price: PriceSpec) -> float:
    """The most that a call can cost."""
    return cost_of(price, intent.prompt_tokens, 0, intent.completion_tokens)


class MemoryLedger:
    """For one process: sums, a budget, and answers for as long as it lives."""

    def __init__(self, price: PriceSpec | None = None, budget: float | None = None) -> None:
        self.price = price or PriceSpec()
        self.budget = budget
        self.cost = 0.0
        """Of the calls that have ended."""
        self.calls = 0
        self._under_way: dict[uuid.UUID, Intent] = {}
        self._answers: dict[str, dict[str, Any]] = {}

    async def open(self, intent: Intent) -> uuid.UUID:
        if self.budget is not None:
            # Calls under way hold what they can cost at most, and give the rest back.
            while self._under_way and self.cost + self._reserved(intent) > self.budget:
                await asyncio.sleep(0.01)
            if self.cost + self._reserved(intent) > self.budget:
                raise BudgetSpent(f"The budget of {self.budget:g} allows no further call.")
        call = uuid.uuid4()
        self._under_way[call] = intent
        self.calls += 1
        return call

    async def close(self, call: uuid.UUID, outcome: Outcome) -> None:
        self.cost += outcome.cost(self._under_way.pop(call), self.price)

    async def taken_over(self, calls: Sequence[str]) -> None:
        """Nothing: this ledger ends with the process that made the calls."""

    def _reserved(self, further: Intent) -> float:
        return sum(most(intent, self.price) for intent in (further, *self._under_way.values()))

    async def recall(self, key: str) -> dict[str, Any] | None:
        return self._answers.get(key)

    async def remember(self, key: str, answer: dict[str, Any]) -> None:
        self._answers[key] = answer
