"""What a listing of features is ordered and filtered by, and its place in it as a cursor."""

from __future__ import annotations

import math
import uuid
from dataclasses import asdict, dataclass
from typing import Any

from service.kit.errors import InvalidRequest
from service.kit.pagination import decode_cursor, encode_cursor


@dataclass(frozen=True)
class FeatureListing:
    sae: uuid.UUID
    sort: str = "index"
    order: str = "asc"
    scorer: str = "detection"
    min_density: float | None = None
    max_density: float | None = None
    has_explanation: bool | None = None
    text: str | None = None
    tag: str | None = None

    def missing_score(self) -> float:
        """Sort key of a feature without a score: they come last in either order."""
        return math.inf if self.order == "asc" else -math.inf

    def encode(self, key: float, index: int) -> str:
        # In hex a float comes back as the very same number, infinities included.
        return encode_cursor(asdict(self), [float(key).hex(), index])

    def decode(self, cursor: str | None) -> tuple[float, int] | None:
        if cursor is None:
            return None
        key, index = decode_cursor(asdict(self), cursor, (str, int))
        try:
            return self._checked(float.fromhex(key), index)
        except (ValueError, OverflowError):
            raise InvalidRequest(
                [("cursor", "this is no cursor; start again without it")]
            ) from None

    def _checked(self, key: float, index: Any) -> tuple[float, int]:
        if math.isnan(key) or not 0 <= index < 2**31:
            raise ValueError
        return key, index
