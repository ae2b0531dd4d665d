"""The report over all scored features of a run: a JSON-able value, from which the page is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monosemy.errors import DataError
from monosemy.interp.duplicate_labels import DuplicateLabels
from monosemy.interp.report.agreement import agreement
from monosemy.interp.report.measures import measures
from monosemy.interp.report.table import Table
from monosemy.specs.parts import PriceSpec

SHOWN = 10
"""Best and worst features listed for each scorer."""
CLUSTERS = 30
"""Clusters of duplicate labels listed."""


@dataclass(frozen=True)
class Extras:
    """What a report may hold besides scores."""

    reference: Table = ()
    """The scores of an SAE to compare with; see ``monosemy.saes.random_weights`` for one with
    random weights."""
    reference_name: str = "random weights"
    duplicates: DuplicateLabels | None = None
    price: PriceSpec | None = None


def build_report(
    table: Table, name: str = "Scores", extras: Extras | None = None, seed: int = 0
) -> dict[str, Any]:
    """JSON-able: for every scorer what ``measures`` says, ``agreement`` between scorers, best and
    worst features, and what ``extras`` bring.  Size does not grow with the number of features.

    ``seed`` seeds the resampling.  Raises ``DataError`` without any score, for a feature listed
    twice, or for a scorer that has not the same metric everywhere.
    """
    extras = extras or Extras()
    for part in (table, extras.reference):
        features = [feature.feature for feature in part]
        if len(set(features)) != len(features):
            raise DataError("A feature is listed twice; a report takes one explanation of each.")
    scorers = list(dict.fromkeys(name for feature in table for name in feature.scores))
    if not scorers:
        raise DataError("There are no scores to report.", "Submit a score run.")
    report = {
        "name": name,
        "features": len(table),
        "seed": seed,
        "reference": extras.reference_name if extras.reference else None,
        "scorers": {each: _of_scorer(each, table, extras, seed) for each in scorers},
        "agreement": agreement(table, scorers, seed),
        "duplicates": extras.duplicates.as_dict(CLUSTERS) if extras.duplicates else None,
        "priced": extras.price is not None,
    }
    return {key: finite(value) for key, value in report.items()}


def finite(value: Any) -> Any:
    """Without numbers that JSON does not know: an interval's open end is None."""
    if isinstance(value, Mapping):
        return {str(key): finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _of_scorer(scorer: str, table: Table, extras: Extras, seed: int) -> dict[str, Any]:
    rows = {each.feature: each.scores[scorer] for each in table if scorer in each.scores}
    others = [each.scores[scorer] for each in extras.reference if scorer in each.scores]
    if len({row.metric for row in [*rows.values(), *others]}) > 1:
        raise DataError(f"The scores of {scorer} have different metrics.")
    return {
        **measures(rows, others, extras.price, seed),
        "worst": _listed(scorer, table, False),
        "best": _listed(scorer, table, True),
    }


def _listed(scorer: str, table: Table, best: bool) -> list[dict[str, Any]]:
    known = [
        (value, feature)
        for feature in table
        if scorer in feature.scores and (value := feature.scores[scorer].own.value) is not None
    ]
    known.sort(key=lambda pair: (-pair[0] if best else pair[0], pair[1].feature))
    rows = []
    for value, feature in known[:SHOWN]:
        own = feature.scores[scorer].own
        rows.append(
            {
                "feature": feature.feature,
                "explanation": feature.explanation,
                "value": value,
                "low": own.low,
                "high": own.high,
                "n": own.n,
            }
        )
    return rows
