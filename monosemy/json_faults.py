"""Why a text is no usable JSON, in words for whoever wrote it."""

from __future__ import annotations

import json


def json_fault(error: ValueError | RecursionError) -> str:
    """What ``json.loads``, or the decoding before it, raised: a clause without a full stop."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte 0x{error.object[error.start]:02x} at {error.start} is not UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (line {error.lineno}, column {error.colno})"
    if "integer string conversion" in str(error):
        return "it holds a number of too many digits"
    return str(error)[:200].rstrip(".")
