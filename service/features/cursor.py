"""What a listing of features is ordered and filtered by."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass


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
