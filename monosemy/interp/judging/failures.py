"""How asking a judge can fail, and what an endpoint asks for then."""

from __future__ import annotations

import email.utils
import time
from urllib.parse import urlsplit

import openai

from monosemy.errors import JudgeError
from monosemy.interp.judging.usage import Usage

_RETRIED = {408, 409, 425, 429}


class EndpointError(JudgeError):
    """The endpoint itself cannot be used (address, key, model name): no item will fare better."""


class AnswerError(JudgeError):
    """No usable answer for this one item; ``usage`` is what the attempts cost.

    ``passing``: the endpoint failed, time and again, and may do better another day.
    """

    def __init__(self, message: str, usage: Usage | None = None, passing: bool = False) -> None:
        super().__init__(message)
        self.usage = usage or Usage()
        self.passing = passing


class JudgeAway(JudgeError):
    """The endpoint is busy or away for longer than one call waits; later it may be there again."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait
        """Seconds after which the endpoint asked to be called again."""


def address_of(base_url: str) -> str:
    """The address without user and password.  Raises ``EndpointError`` where it is none."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EndpointError("The judge's address must look like http://host:port/v1.")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def may_pass(status: int) -> bool:
    """Whether the same request may fare better later."""
    return status >= 500 or status in _RETRIED


def retry_after(error: openai.APIStatusError) -> float | None:
    """Seconds that the Retry-After header asks for, given as a number or as a date."""
    headers = error.response.headers
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after")
        if value is None:
            return None
        return max(0.0, float(value))
    except ValueError:
        date = email.utils.parsedate_tz(headers.get("retry-after", ""))
        return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else None
