"""Strict reading of a judge's answer: find its JSON object, check it against its schema.

Endpoints that promise a schema break it often enough (truncation, weak models), and others promise
nothing, so every answer is checked here, whatever the endpoint said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]
"""A flat JSON schema: an object whose properties are strings, numbers, integers or booleans."""

_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


_OPTIONAL = "x-optional"
"""Ours, never sent: properties that the check of an answer does not insist on."""


def object_schema(properties: Mapping[str, Schema], optional: Sequence[str] = ()) -> dict[str, Any]:
    """A schema that strict endpoints take: every property required, no others allowed.

    An answer without the ``optional`` ones is taken all the same (``check_object``).
    """
    schema = {
        "type": "object",
        "properties": {name: dict(value) for name, value in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }
    return {**schema, _OPTIONAL: list(optional)} if optional else schema


def as_sent(schema: Schema) -> dict[str, Any]:
    """The schema as endpoints get it."""
    return {key: value for key, value in schema.items() if key != _OPTIONAL}


def without_limits(schema: Schema) -> dict[str, Any]:
    """The schema without lengths and ranges, which some strict endpoints refuse; the check of the
    answer still uses them."""
    limits = {"minLength", "maxLength", "minimum", "maximum"}
    return {
        **as_sent(schema),
        "properties": {
            name: {key: value for key, value in part.items() if key not in limits}
            for name, part in schema["properties"].items()
        },
    }


def find_object(text: str) -> dict[str, Any] | None:
    """The last complete JSON object in ``text`` that stands at the top level, or None.

    The last one, because a model that thinks aloud quotes the wanted form before it answers.
    Properties that the object names twice, with different values, are left out.
    """
    return _last_object(text)[0]


def find_final_object(text: str) -> dict[str, Any] | None:
    """``find_object`` for a text that was cut off, or that is not the answer by its place: the
    object has to stand first or last, or it may be a draft."""
    value, start, end = _last_object(text)
    first, last = not _strip_fence(text[:start]), not _strip_fence(text[end:])
    return value if first or last else None


def _last_object(text: str) -> tuple[dict[str, Any] | None, int, int]:
    """(the object, where it begins, where it ends)."""
    last: tuple[dict[str, Any] | None, int, int] = None, 0, 0
    start = text.find("{")
    while start >= 0:
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if isinstance(value, dict):
                last = value, start, end
        start = text.find("{", end)
    return last


def salvage_object(text: str, schema: Schema, cut: bool = False) -> dict[str, Any]:
    """The well-typed properties of an answer, even one that was cut off (``cut``: it is known to
    be) or has faults elsewhere."""
    value = find_final_object(text) if cut else find_object(text)
    if value is None:
        value = _read_cut_off(text)
    return {
        name: value[name]
        for name, part in schema["properties"].items()
        if name in value and problem_with(value[name], part) is None
    }


def check_object(value: Mapping[str, Any], schema: Schema) -> list[str]:
    """What is wrong with ``value``, one sentence each; empty when it fits.

    Properties that were not asked for are no fault: the caller leaves them unread.
    """
    optional = schema.get(_OPTIONAL, ())
    wanted = [name for name in schema["required"] if name not in optional]
    faults = [f"'{name}' is missing" for name in wanted if name not in value]
    for name, part in schema["properties"].items():
        fault = problem_with(value[name], part) if name in value else None
        if fault and name not in optional:
            faults.append(f"'{name}' {fault}")
    return faults


def problem_with(value: Any, schema: Schema) -> str | None:
    """Why one value does not fit its schema (type, length, range, enum), or None."""
    kind = schema["type"]
    if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return f"is not of type {kind}"
    if "enum" in schema and value not in schema["enum"]:
        return "is none of the allowed values"
    if isinstance(value, str):
        if len(value) < schema.get("minLength", 0):
            return "is too short"
        if len(value) > schema.get("maxLength", len(value)):
            return "is too long"
    elif not isinstance(value, bool) and not (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
    ):
        return "is out of range"
    return None


def _read_cut_off(text: str) -> dict[str, Any]:
    """Complete ``"name": value`` pairs of an object whose end is missing."""
    result: dict[str, Any] = {}
    # The last one that is open: a complete one before it was a draft.
    position = text.find("{", _last_object(text)[2]) + 1
    while position > 0:
        try:
            name, position = _DECODER.raw_decode(text, _skip(text, position, " \t\r\n,"))
            position = _skip(text, position, " \t\r\n")
            if not isinstance(name, str) or text[position : position + 1] != ":":
                break
            start = _skip(text, position + 1, " \t\r\n")
            value, position = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            break
        if position >= len(text) and not isinstance(value, str | bool):
            break  # a number at the very end may lack its last digits
        result[name] = value
    return result


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position


def _strip_fence(text: str) -> str:
    """What stands before or after an object besides white space, a code fence, and the marks in
    which some endpoints leave the answer (``<|return|>``)."""
    return re.sub(r"```\w*|<\|\w+\|>", "", text).strip()


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _without_contradictions(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    twice: set[str] = set()
    for name, part in pairs:
        if name in value and json.dumps(value[name]) != json.dumps(part):
            twice.add(name)
        value[name] = part
    return {name: part for name, part in value.items() if name not in twice}


_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant, object_pairs_hook=_without_contradictions
)
