"""What Postgres refuses in text and jsonb, made storable.

Judges, corpora and metrics bring NUL characters, halves of surrogate pairs, NaN and numpy numbers;
one of them must not cost a run its result.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from monosemy.data.characters import encodable

_REFUSED = re.compile("[\x00\ud800-\udfff]")


def storable_text(text: str) -> str:
    """``text`` with NUL and lone surrogates replaced by U+FFFD; surrogate pairs are joined."""
    if _REFUSED.search(text) is None:
        return text
    return encodable(text)[0].replace("\x00", "\ufffd")


def storable_json(value: Any) -> str:
    """``storable(value)`` as JSON; most values need no second look, and get none."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        return json.dumps(storable(value), ensure_ascii=False)
    # NUL is written with an escape, surrogates as they are.
    if "\\u0000" in text or _REFUSED.search(text) is not None:
        return json.dumps(storable(value), ensure_ascii=False)
    return text


def storable(value: Any) -> Any:
    """A copy of a JSON-like value that jsonb takes: numbers plain, those not finite None."""
    if isinstance(value, str):
        return storable_text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, Mapping):
        return {storable_text(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [storable(item) for item in value]
    return storable_text(str(value))
