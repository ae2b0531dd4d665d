"""How asking a judge can fail: one HTTP request (``CallFailed``), one item, all of them."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from monosemy.errors import JudgeError
from monosemy.interp.judging.reasons import Reason
from monosemy.interp.judging.usage import Usage

_RETRIED = {408, 409, 425, 429}
_LONGEST_ASKED = 86_400.0
"""Seconds; an endpoint that asks to wait for longer is not believed."""


class EndpointError(JudgeError):
    """The endpoint itself cannot be used (address, key, model name): no item will fare better."""


class JudgeUnreachable(EndpointError):
    """Nothing answers at the endpoint's address."""


class KeyRefused(EndpointError):
    """The endpoint does not take the key, or wants one where none is sent."""


class QuotaSpent(EndpointError):
    """The account behind the key has nothing left: waiting does not help, paying does."""


class AnswerError(JudgeError):
    """No usable answer for this one item; ``usage`` is what the attempts cost.

    ``passing``: the endpoint failed, time and again, and may do better another day.
    """

    def __init__(
        self,
        message: str,
        usage: Usage | None = None,
        passing: bool = False,
        advice: str | None = None,
    ) -> None:
        super().__init__(message, advice)
        self.usage = usage or Usage()
        self.passing = passing


class TooLong(AnswerError):
    """The endpoint refused this item's prompt, or the room for its answer, as too long."""


class JudgeAway(JudgeError):
    """The endpoint is busy or away for longer than one call waits; later it may be there again."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait
        """Seconds after which the endpoint asked to be called again."""


# -------------------------------------------------------------------- one request
class CallFailed(Exception):
    """One HTTP request brought no answer; its text is short and holds no key."""


class StatusError(CallFailed):
    """The endpoint answered with an error: a status of HTTP, or one within an answer of 200
    (``within``), whose ``status`` is the one that it stands for."""

    def __init__(
        self,
        status: int,
        reason: Reason,
        wait: float | None = None,
        *,
        within: bool = False,
        leads_to: str | None = None,
    ) -> None:
        """``leads_to``: where a redirect goes, fit for people."""
        head, words = f"HTTP {status}", reason.text
        if within:
            head, words = "HTTP 200 with an error inside", reason.text or reason.codes
        elif self.redirects(status):
            where = f" to {leads_to}" if leads_to else ""
            head, words = f"{head}, a redirect{where}, which is not followed", ""
        super().__init__(f"{head}: {words}" if words else head)
        self.status, self.reason = status, reason
        self.wait = wait
        """Seconds after which the endpoint asks to be called again."""

    @staticmethod
    def redirects(status: int) -> bool:
        return 300 <= status < 400


class NoAnswer(CallFailed):
    """The connection failed or nothing came in time.  ``silent``: it stood, but nothing came."""

    def __init__(self, message: str, silent: bool = False) -> None:
        super().__init__(message)
        self.silent = silent


class BadReply(CallFailed):
    """A reply of status 200 that is no answer.  ``page``: it is a page for people (HTML)."""

    def __init__(self, message: str, page: bool = False) -> None:
        super().__init__(message)
        self.page = page


class Unanswered(CallFailed):
    """A batch ended without coming to a question, which has cost nothing and may be asked again."""


# -------------------------------------------------------------------- what an endpoint says
def address_of(base_url: str) -> str:
    """The address without user and password.  Raises ``EndpointError`` where it is none."""
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        usable = usable and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number, half a bracket
        usable = False
    if not usable:
        raise EndpointError("The judge's address must look like http://host:port/v1.")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def may_pass(status: int) -> bool:
    """Whether the same request may fare better later."""
    return status >= 500 or status in _RETRIED


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the Retry-After header (names in lower case) asks for, given as a number or as a
    date; None for what is neither, or beyond all reason."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is not None and (seconds := _seconds(value)) is not None:
            seconds /= scale
            if math.isfinite(seconds) and seconds <= _LONGEST_ASKED:
                return max(0.0, seconds)
    return None


def _seconds(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        pass
    try:
        date = email.utils.parsedate_tz(value)
        return email.utils.mktime_tz(date) - time.time() if date else None
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
