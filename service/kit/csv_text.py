"""CSV that spreadsheets show as it is: no cell is taken for a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What begins a formula, or stands before one; the last four are the full-width forms."""


def csv_lines(rows: Iterable[Sequence[Any]]) -> str:
    """The rows as lines of CSV.  A text that a spreadsheet would calculate has an apostrophe before
    it; numbers are numbers."""
    text = io.StringIO()
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return f"'{value}"
    return value
