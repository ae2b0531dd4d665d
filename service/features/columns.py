"""The columns of a feature, stated once: the table says what is stored, ``FeatureFacts`` what is
shown.  Listings, pages, exports, search and COPY read the lists here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from sqlalchemy import Table

from monosemy.specs.rest.features import FeatureFacts
from service.database.tables import Feature

_TABLE = cast(Table, Feature.__table__)

STORED = tuple(column for column in _TABLE.columns if column.computed is None)
"""What an index run writes; the table's other columns are computed from these."""

FACTS = tuple(FeatureFacts.model_fields)
"""What is shown wherever a feature is."""


def facts_of(feature: Feature, names: Iterable[str] = FACTS) -> dict[str, Any]:
    """Those of the facts that ``names`` has."""
    return {name: getattr(feature, name) for name in names if name in FACTS}
