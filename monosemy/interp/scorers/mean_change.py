"""The mean of graded judgements of activating examples, with Student's interval over documents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from monosemy.interp.scorers.result import MEAN_SURPRISAL_CHANGE, Judgement, Summary
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.statistics.student import student_critical
from monosemy.interp.tiers import ACTIVATING


def mean_change(judgements: Sequence[Judgement], z: float = Z95) -> Summary:
    """Mean ``value`` in nats; its standard error takes documents as clusters.

    With G documents, ``sem**2 = G / (G - 1) * sum over documents of (sum of residuals)**2 / n**2``
    (CR1; Cameron and Miller 2015, section II), which is s**2 / n where all documents differ, and t
    has G - 1 degrees of freedom.  Failed judgements are left out.  With fewer than two documents
    there is no interval, so the value is None.  No worst case: a change has no bound.
    """
    judged = [j for j in judgements if j.tier == ACTIVATING and j.value is not None]
    values = np.array([j.value for j in judged], dtype=np.float64)
    _, cluster = np.unique([j.document for j in judged], return_inverse=True)
    count = int(cluster.max()) + 1 if len(judged) else 0
    details: dict[str, Any] = {
        "unit": "nats",
        "n_documents": count,
        "by_group": _by_group(judged),
        "note": "No upper bound, so no chance-normalised value: compare with the baseline's value.",
    }
    if count < 2:
        return Summary(MEAN_SURPRISAL_CHANGE, None, 0.0, 0.0, None, details)
    mean = float(values.mean())
    sums_G = np.bincount(cluster, weights=values - mean, minlength=count)
    sem = math.sqrt(count / (count - 1) * float(sums_G @ sums_G)) / len(values)
    half = student_critical(z, count - 1) * sem
    details["sem"] = sem
    return Summary(MEAN_SURPRISAL_CHANGE, mean, mean - half, mean + half, None, details)


def _by_group(judged: Sequence[Judgement]) -> dict[str, dict[str, float | int]]:
    """Mean and n per stratum of the activation."""
    groups: dict[str, list[float]] = {}
    for judgement in judged:
        groups.setdefault(str(judgement.group), []).append(judgement.value or 0.0)
    ordered = sorted(groups, key=lambda group: (len(group), group))
    return {
        name: {"mean": float(np.mean(groups[name])), "n": len(groups[name])} for name in ordered
    }
