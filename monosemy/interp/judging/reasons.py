"""Why an endpoint refused, read out of the body of its error, whatever its shape.

There is no agreed shape: ``{"error": {"message": ...}}``, ``{"error": "..."}``, FastAPI's
``{"detail": [{"loc": ..., "msg": ...}]}``, lists of those, JSON inside a message, plain text, HTML.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from monosemy.redaction import without_keys

LONGEST = 300
"""Characters of a reason that are kept."""
_TEXT_KEYS = (
    *("message", "msg", "error", "errors", "detail", "details", "error_description"),
    *("error_message", "errorMessage", "reason", "faultstring", "fault", "title", "description"),
    *("metadata", "raw"),  # OpenRouter hands its provider's own error on so
)
_CODE_KEYS = ("code", "type", "status", "error_code", "error_type", "errorCode")
_NOTHING = {"", "null", "{}", "[]", '""'}
_DEPTH, _ITEMS = 8, 5
_PARSED = 20_000
"""A body, or a message that looks like JSON, is parsed up to so many characters."""
_KEY_LIKE = re.compile(
    r"\b(?:sk|pk|rk|xai|gsk|hf|key|token)[-_][\w*.\-]{8,}"
    r"|\b(?:bearer|token|key)[ :=]+(?=\S*[\d*])[\w*.\-/+=]{8,}"
    r"|\bAIza[\w-]{20,}",
    re.IGNORECASE,
)
_WAIT = re.compile(
    r"(?:try again|retry|retry[-_ ]?delay\W*)\s*(?:in|after)?\s*"
    r"((?:\d+h)?(?:\d+m(?!s))?(?:\d+(?:\.\d+)?m?s(?:ec)?)?)",
    re.IGNORECASE,
)
_PART_OF_WAIT = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@dataclass(frozen=True)
class Reason:
    """An endpoint's own account of an error."""

    text: str = ""
    """For people: one line of at most ``LONGEST`` characters, without keys."""
    codes: str = ""
    """Words for programs (``insufficient_quota``, ``invalid_request_error``), in lower case."""
    parameters: frozenset[str] = frozenset()
    """Fields of the request that the error names as its cause, each part of a path by itself."""
    page: bool = False
    """It was a page for people (HTML), so not the endpoint's but something before it."""
    wait: float | None = None
    """Seconds that the text asks to wait."""


def reason_of(body: bytes | str | Any, redact: Callable[[str], str] = without_keys) -> Reason:
    """The reason in an error's body: bytes or text as they came, or JSON that is parsed already."""
    if isinstance(body, bytes):
        body = body[:_PARSED].decode("utf-8", "replace")
    page = isinstance(body, str) and is_page(body)
    if page:
        body = _words_of_page(body)
    texts: list[str] = []
    codes: list[str] = []
    parameters: set[str] = set()
    for kind, value in _walk(body, _DEPTH):
        if kind == "parameter":
            parameters.update(part for part in re.split(r"[.\[\]/]+", value) if part)
        elif value not in (pile := texts if kind == "text" else codes):
            pile.append(value)
    if not texts:
        whole = body if isinstance(body, str) else _dumped(body)
        texts = [whole] if whole.strip() not in _NOTHING else []
    whole = "; ".join(texts)[:_PARSED]
    return Reason(
        text=one_line(redact(whole)),
        codes=" ".join(codes).lower()[:LONGEST],
        parameters=frozenset(parameters),
        page=page,
        wait=_wait(whole),
    )


def redactor(key: str | None) -> Callable[[str], str]:
    """What takes ``key``, its beginning, and whatever looks like a key out of a text."""
    own = re.compile(re.escape(key[:8]) + r"[\w*.\-]*") if key and len(key) >= 12 else None

    def redact(text: str) -> str:
        if key:
            text = text.replace(key, "[key]")
        if own is not None:
            text = own.sub("[key]", text)
        return without_keys(_KEY_LIKE.sub("[key]", text))

    return redact


def one_line(text: str) -> str:
    """At most ``LONGEST`` characters in one line, without characters that steer a terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def is_page(text: str) -> bool:
    """Whether a body is HTML or XML."""
    return text.lstrip("\ufeff \t\r\n")[:1] == "<"


def _walk(value: Any, depth: int) -> Iterator[tuple[str, str]]:
    """(``text``, ``code`` or ``parameter``; words), outermost first."""
    if depth == 0:
        return
    if isinstance(value, str):
        inner = _parsed(value)
        if inner is not None:
            yield from _walk(inner, depth - 1)
        elif value.strip() not in _NOTHING:
            yield "text", value.strip()
    elif isinstance(value, list):
        for each in value[:_ITEMS]:
            yield from _walk(each, depth - 1)
    elif isinstance(value, dict):
        yield from _walk_object(value, depth)


def _walk_object(value: dict[str, Any], depth: int) -> Iterator[tuple[str, str]]:
    for key in _CODE_KEYS:
        if isinstance(value.get(key), str | int) and not isinstance(value[key], bool):
            yield "code", str(value[key])
    if isinstance(value.get("param"), str):
        yield "parameter", value["param"]
    place = value.get("loc")
    if isinstance(place, list):
        place = ".".join(str(part) for part in place if isinstance(part, str | int))
        yield "parameter", place
        if isinstance(value.get("msg"), str):
            # FastAPI adds the whole input, prompts and all: left out.
            yield "text", f"{place}: {value['msg']}"
            return
    if isinstance(value.get("retryDelay"), str):
        yield "text", f"retry in {value['retryDelay']}"
    for key in _TEXT_KEYS:
        yield from _walk(value.get(key), depth - 1)


def _parsed(text: str) -> Any:
    """The JSON object or list that a text is, or None."""
    text = text.strip("\ufeff \t\r\n")
    if text[:1] not in ("{", "[") or len(text) > _PARSED:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if value else None


def _dumped(value: Any) -> str:
    try:
        return json.dumps(value)[:LONGEST]
    except (ValueError, RecursionError, TypeError):
        return type(value).__name__


def _words_of_page(text: str) -> str:
    title = re.search(r"<title[^>]*>(.{0,500}?)</title>", text, re.IGNORECASE | re.DOTALL)
    if title and title[1].strip():
        return html.unescape(title[1]).strip()
    bare = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", text[:5000], flags=re.DOTALL)
    return html.unescape(bare).strip()


def _wait(text: str) -> float | None:
    match = _WAIT.search(text)
    parts = _PART_OF_WAIT.findall(match[1]) if match else []
    return sum(float(number) * _SECONDS[unit] for number, unit in parts) if parts else None
