"""Points in time as requests name them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator

_DATED = re.compile(r"\d{4}-\d\d-\d\d[T ]")


def _is_dated(value: Any) -> Any:
    """A bare number would be taken for seconds, or milliseconds, since 1970."""
    number = isinstance(value, int | float)
    if number or (isinstance(value, str) and not _DATED.match(value)):
        raise ValueError("give a date and a time, such as 2026-01-31T12:00:00Z")
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(_is_dated)]
"""RFC 3339, with a time zone."""
