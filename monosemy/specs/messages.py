"""What is wrong with a value, in words for whoever gave it; pydantic's own where they are plain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monosemy.figures import plural

_WHOLE = frozenset({"int_type", "int_parsing", "int_parsing_size", "int_from_float"})
_NUMBER = frozenset({"float_type", "float_parsing"})
_ID = frozenset({"uuid_type", "uuid_parsing"})
_AN_ID = "6f2c0d2e-4c0e-4f0b-9c59-0d6a1c0f7e11"
_SHOWN = 40
"""Characters of a value that are shown."""


_PATTERNS: dict[str, str] = {}
"""What is expected where a text matches a regular expression, by the expression."""


def pattern(expression: str, expected: str) -> str:
    """``expression``, for a field's ``pattern``; what does not match it is told as ``expected``."""
    _PATTERNS[expression] = expected
    return expression


def message_of(fault: Mapping[str, Any]) -> str:
    """Of one entry of ``ValidationError.errors()``."""
    kind, value = fault["type"], fault.get("input")
    if kind in _WHOLE or kind in _NUMBER:
        if _is_large(value):
            return f"the number {_shown(value)} is too large"
        what = "a whole number" if kind in _WHOLE else "a number"
        return f"{what} is expected, not {_shown(value)}"
    if kind in _ID:
        return f"an id is expected, such as {_AN_ID}, not {_shown(value)}"
    if kind == "string_pattern_mismatch" and (expected := _expected(fault)) is not None:
        return f"{expected} is expected, not {_shown(value)}"
    if kind == "too_short":
        least, given = fault["ctx"]["min_length"], fault["ctx"]["actual_length"]
        return f"at least {plural(least, 'item')} must be given, and there are {given or 'none'}"
    if kind == "union_tag_not_found":
        return f"the key {fault['ctx']['discriminator']} is missing, which says what this is"
    return str(fault["msg"]).removeprefix("Value error, ")


def _expected(fault: Mapping[str, Any]) -> str | None:
    return _PATTERNS.get((fault.get("ctx") or {}).get("pattern", ""))


def _is_large(value: Any) -> bool:
    """Whether it is a number, or the text of one, beyond what a field of whole numbers holds."""
    try:
        return not isinstance(value, bool) and abs(float(value)) >= 2.0**63
    except (TypeError, ValueError, OverflowError):
        return isinstance(value, int)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    try:
        text = repr(value)
    except ValueError:  # a number of too many digits
        return "one of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
