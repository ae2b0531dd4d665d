"""Prompts of one's own in JSONL: one object a line, held to a spec."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from monosemy.errors import DataError
from monosemy.json_faults import json_fault
from monosemy.specs.messages import message_of

P = TypeVar("P", bound=BaseModel)
Prepare = Callable[[dict[str, Any], str], dict[str, Any]]
"""An object as it stands there, and where that is, to the fields of the spec."""


def lines_of(file: str | Path) -> list[str]:
    """``DataError`` for a file that cannot be read, or is not UTF-8."""
    path = Path(file)
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error.reason} at {error.start}.") from None


def prompts_in(
    lines: Iterable[str], name: str, spec: type[P], prepare: Prepare | None = None
) -> list[P]:
    """Blank lines are passed over.  ``DataError``, which begins with ``name``, names line and
    field of the first fault; also where there are no prompts."""
    items = [
        _item(line, f"{name}, line {number}", spec, prepare)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not items:
        raise DataError(f"{name} holds no prompts.")
    return items


def _item(line: str, where: str, spec: type[P], prepare: Prepare | None) -> P:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {json_fault(error)}.") from None
    if not isinstance(record, dict):
        raise DataError(f"{where} is no object but {type(record).__name__}.")
    try:
        return spec.model_validate(record if prepare is None else prepare(record, where))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "prompt"
        raise DataError(f"{where}: {field}: {message_of(first)}.") from None
