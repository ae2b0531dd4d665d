"""The order and filter of a listing of features, as they go along in an address."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from service.features.listing import FIRST_SCORER, FeatureFilter

USUAL = FeatureFilter(scorer=FIRST_SCORER)
_NAMES = {"text": "q"}
"""Of what addresses call otherwise."""


def along(wanted: FeatureFilter) -> dict[str, Any]:
    """What is not as usual, by the names of an address: so that the next feature there is the next
    one here."""
    return {
        _NAMES.get(name, name): value
        for name, value in asdict(wanted).items()
        if value not in (getattr(USUAL, name), None)
    }
