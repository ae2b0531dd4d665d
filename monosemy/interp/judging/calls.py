"""One call to an endpoint: its turn, its entry in the ledger, and the attempts it takes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from monosemy.interp.judging.batches import BatchLimits
from monosemy.interp.judging.dialect import Dialect
from monosemy.interp.judging.failures import (
    AnswerError,
    BadReply,
    CallFailed,
    EndpointError,
    JudgeAway,
    JudgeUnreachable,
    NoAnswer,
    StatusError,
    Unanswered,
    may_pass,
)
from monosemy.interp.judging.ledger import Intent, Ledger, Outcome
from monosemy.interp.judging.notices import Notices
from monosemy.interp.judging.pace import Pace
from monosemy.interp.judging.refusals import UNDERSTOOD_NOT, ends_everything
from monosemy.interp.judging.replies import Body, tokens_of
from monosemy.interp.judging.usage import Usage

T = TypeVar("T")

Request = Callable[[dict[str, str]], Awaitable[Body]]
"""Headers to the body of an answer."""

_WORTH_TELLING = 5.0
"""Seconds of a wait that the endpoint asked for, above which the run's events report it."""


@dataclass(frozen=True)
class Limits:
    """How patient to be with an endpoint; times in seconds."""

    timeout: float = 120.0
    """Longest time for one call."""
    attempts: int = 5
    """HTTP requests per call before it is given up."""
    first_wait: float = 0.5
    """Wait before the first retry; it doubles each time, with jitter."""
    longest_wait: float = 60.0
    """A wait is never longer; an endpoint that asks for more (Retry-After) fails the call."""
    batch: BatchLimits = field(default_factory=BatchLimits)
    """When batches are sent and looked after."""


class Calls:
    """The calls to one endpoint at ``address``."""

    def __init__(
        self,
        address: str,
        limits: Limits,
        pace: Pace,
        ledger: Ledger,
        dialect: Dialect,
        notices: Notices,
    ) -> None:
        self.address, self.limits, self.pace, self.ledger = address, limits, pace, ledger
        self.model: str | None = None
        """Named where the endpoint refuses it."""
        self._dialect, self._notices = dialect, notices
        self._worked = False

    async def entered(
        self,
        intent: Intent,
        request: Request,
        read: Callable[[Body], T],
        usage: Usage,
        paced: bool = True,
    ) -> T:
        """What ``read`` makes of the answer; the ledger has an entry before and after each attempt.

        ``read`` raises ``CallFailed`` for a body that is no answer.  Raises ``JudgeError``, and
        ``StatusError`` where the endpoint does not understand the request.
        """

        async def once() -> T:
            body = await self._once(intent, request, paced)
            usage.count(tokens_of(body))
            return read(body)

        return await self.repeated(once, usage)

    async def repeated(self, call: Callable[[], Awaitable[T]], usage: Usage) -> T:
        """Repeats ``call`` over passing trouble.  Raises as ``entered`` does."""
        started = time.monotonic()
        try:
            for attempt in range(1, self.limits.attempts + 1):
                try:
                    answer = await call()
                    usage.calls += 1
                    self._worked = True
                    return answer
                except CallFailed as error:
                    wait = self._wait_after(error, attempt, usage)
                usage.retries += 1
                await asyncio.sleep(wait)
            raise AssertionError("unreachable: the last attempt raises")
        finally:
            usage.seconds += time.monotonic() - started

    async def _once(self, intent: Intent, request: Request, paced: bool) -> Body:
        """``paced``: it waits for its turn at the endpoint."""
        if not paced:
            return await self._in_books(intent, request)
        async with self.pace.turn(intent.expected_tokens) as turn:
            try:
                body = await self._in_books(intent, request)
            except StatusError as error:
                if error.wait is not None and may_pass(error.status):
                    # Before this turn ends, or the next call would slip through.
                    await self.pace.hold(min(error.wait, self.limits.longest_wait))
                raise
            spent = tokens_of(body)
            if spent is not None:
                turn.used(spent[0] + spent[2])
            return body

    async def _in_books(self, intent: Intent, request: Request) -> Body:
        call = await self.ledger.open(intent)
        try:
            body = await request({"X-Request-Id": str(call)})
        except StatusError as error:
            await self.ledger.close(call, Outcome(error.status))
            raise
        except CallFailed as error:
            await self.ledger.close(call, Outcome(408 if isinstance(error, Unanswered) else None))
            raise
        await self.ledger.close(call, Outcome(200, tokens_of(body)))
        return body

    def _wait_after(self, error: CallFailed, attempt: int, usage: Usage) -> float:
        """Seconds until the next attempt; raises when there is to be none."""
        if isinstance(error, StatusError):
            fatal = ends_everything(error, self.address, self.model, self._worked)
            if fatal is not None:
                raise fatal from None
            understood_not = error.status in UNDERSTOOD_NOT
            if understood_not or (error.status == 500 and self._dialect.concerns(error.reason)):
                raise error
            if error.wait is not None and error.wait > self.limits.longest_wait:
                message = f"The judge asks to wait {error.wait:.0f} s ({error})."
                raise JudgeAway(message, error.wait) from None
        passing = not isinstance(error, StatusError) or may_pass(error.status)
        if attempt == self.limits.attempts or not passing:
            raise self._given_up(error, attempt, passing, usage) from None
        asked = error.wait if isinstance(error, StatusError) else None
        if asked is not None:
            if asked >= _WORTH_TELLING:
                self._notices.tell("wait", f"the judge asks to wait {asked:.0f} s ({error})")
            return asked
        backoff = min(self.limits.longest_wait, self.limits.first_wait * 2 ** (attempt - 1))
        return backoff * random.uniform(0.5, 1.0)

    def _given_up(
        self, error: CallFailed, attempts: int, passing: bool, usage: Usage
    ) -> AnswerError | EndpointError | JudgeAway:
        message = f"The judge failed {attempts} times ({error})."
        if not self._worked and isinstance(error, NoAnswer) and not error.silent:
            return JudgeUnreachable(
                f"The judge at {self.address} cannot be reached ({error}).",
                "Check that it runs and that the address is right.",
            )
        if not self._worked and isinstance(error, BadReply) and error.page:
            return EndpointError(
                f"At {self.address} there is no judge ({error}).",
                "Check the address: it mostly ends in /v1.",
            )
        # A plain 500 or a reply of the wrong shape, time and again, may well be this question's
        # fault; a gateway's errors and pages, limits and silence are not.
        if isinstance(error, StatusError):
            away = passing and error.status != 500
        else:
            away = not isinstance(error, BadReply) or error.page
        return JudgeAway(message) if away else AnswerError(message, usage, passing=passing)
