"""Scores in memory as the rows that the database has of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from monosemy.interp.report.table import FeatureScores, Scored, scored
from monosemy.interp.scorers.result import ScoreResult

_COLUMNS = ("scorer", "metric", "value", "low", "high", "n", "n_failed")


def score_row(result: ScoreResult) -> dict[str, Any]:
    columns = {name: getattr(result, name) for name in _COLUMNS}
    return {**columns, "details": json.loads(json.dumps(result.as_details()))}


def scored_result(result: ScoreResult) -> Scored:
    """``result`` as a report takes it."""
    return scored(score_row(result))


def report_table(
    explanations: Mapping[int, str], results: Mapping[int, ScoreResult]
) -> list[FeatureScores]:
    """Of one scorer."""
    return [
        FeatureScores(feature, text, {results[feature].scorer: scored_result(results[feature])})
        for feature, text in explanations.items()
    ]
