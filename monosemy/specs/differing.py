"""A spec in short: what it says that is not said anyway."""

from __future__ import annotations

from typing import Any

from monosemy.specs.part import Part
from monosemy.specs.registry import Registered


def differing(part: Part) -> dict[str, Any]:
    """What differs from the defaults, as JSON; validated, it is ``part`` again.

    Names of classes stay, but for the class that is taken where none is named.
    """
    whole = part.model_dump(mode="json")
    short: dict[str, Any] = {}
    for name, info in type(part).model_fields.items():
        value = getattr(part, name)
        if isinstance(part, Registered) and name == part.registry.key:
            if value != part.registry.default:
                short[name] = value
        elif name in whole and (
            info.is_required() or value != info.get_default(call_default_factory=True)
        ):
            short[name] = _short(value, whole[name])
    return short


def _short(value: Any, dumped: Any) -> Any:
    if isinstance(value, Part):
        return differing(value)
    if isinstance(value, list):
        return [_short(*pair) for pair in zip(value, dumped, strict=True)]
    return dumped
