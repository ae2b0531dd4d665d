"""Checks of arguments given by hand: ``SpecError`` names the argument and what it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

from monosemy.errors import SpecError


def refused(name: str, takes: str, given: object) -> SpecError:
    """The error of an argument that is of another type."""
    shown = "None" if given is None else f"{given!r:.60} ({type(given).__name__})"
    return SpecError([(name, f"it takes {takes}, not {shown}")])


def a_mapping(name: str, value: Any, takes: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise refused(name, takes, value)
    return value


def whole(name: str, value: Any) -> int:
    """A whole number, numpy's too; no bool, no text."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise refused(name, "a whole number", value)
    return int(value)


def several(name: str, value: Any, takes: str) -> list[Any]:
    """What ``value`` holds; a text is not taken as its letters, nor a mapping as its keys."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise refused(name, takes, value)
    return list(value)


def features(name: str, value: Any) -> list[int]:
    """Indices of features."""
    return [whole(name, each) for each in several(name, value, "a list of feature indices")]


def texts(name: str, value: Any, takes: str) -> list[str]:
    given: Sequence[Any] = several(name, value, takes)
    for each in given:
        if not isinstance(each, str):
            raise refused(name, takes, each)
    return list(given)
