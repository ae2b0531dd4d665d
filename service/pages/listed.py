"""The order and filter of a listing of features, as they go along in an address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from service.features.listing import FIRST_SCORER, FeatureFilter

USUAL = FeatureFilter(scorer=FIRST_SCORER)
_NAMES = {"text": "q"}
"""Of what addresses call otherwise."""


def usual_scorer(scored: Mapping[str, int]) -> str:
    """Whose scores a page shows where its address names nobody: of the scorers with the most
    scored features the usual one, else the first by name.  ``scored``: features by scorer."""
    most = max(scored.values(), default=0)
    best = sorted(name for name, count in scored.items() if count == most)
    return FIRST_SCORER if not best or FIRST_SCORER in best else best[0]


def along(wanted: FeatureFilter) -> dict[str, Any]:
    """What is not as usual, by the names of an address: so that the next feature there is the next
    one here."""
    return {
        _NAMES.get(name, name): value
        for name, value in asdict(wanted).items()
        if value not in (getattr(USUAL, name), None)
    }
