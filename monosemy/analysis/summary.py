"""The summary of a comparison of two SAEs."""

from __future__ import annotations

from typing import Any

import numpy as np

from monosemy.analysis.matching import Compared, Floats, Ints

THRESHOLDS = (0.5, 0.7, 0.9)
BINS = 20


def summarise(
    compared: Compared,
    partners: Ints,
    values: Floats,
    null: Floats | None,
    within: Floats,
) -> dict[str, Any]:
    """Shares and means of the matches, beside what chance and one SAE alone would give.

    ``values`` [n] are the similarities of ``partners``; ``null`` the best similarities to a second
    side that has nothing to do with the first (None where there is no such thing); ``within`` the
    best similarities of the first side's features to each other.
    """
    matched = partners >= 0
    best_a, best_b = compared.forward.values[:, 0], compared.backward.values[:, 0]
    held = values[matched]
    return {
        "features_a": len(best_a),
        "features_b": len(best_b),
        "matched": int(matched.sum()),
        "matched_share_a": float(matched.mean()),
        "matched_share_b": float(matched.sum() / len(best_b)),
        "mean_matched": float(held.mean()) if len(held) else None,
        "median_matched": float(np.median(held)) if len(held) else None,
        "mean_best_a": float(best_a.mean()),
        "mean_best_b": float(best_b.mean()),
        "matched_above": {f"{least:g}": float((held >= least).mean()) for least in THRESHOLDS}
        if len(held)
        else {},
        "null": None if null is None else _distribution(null),
        "within_a": _distribution(within),
        "above_null": None if null is None else float((best_a > null.max()).mean()),
        "histogram": _histogram(best_a),
    }


def _distribution(values: Floats) -> dict[str, float]:
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return {
        "n": len(values),
        "mean": float(values.mean()),
        "p05": float(low),
        "median": float(middle),
        "p95": float(high),
        "max": float(values.max()),
    }


def _histogram(values: Floats) -> dict[str, Any]:
    """Of the best similarities of the first side, over [min(0, least), 1]."""
    least = min(0.0, float(values.min()))
    counts, edges = np.histogram(values, bins=BINS, range=(least, max(1.0, float(values.max()))))
    return {"edges": [round(float(edge), 4) for edge in edges], "counts": counts.tolist()}
