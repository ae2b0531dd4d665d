"""The area under the ROC curve of graded judgements, with each tier of negatives apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from monosemy.interp.scorers.result import Judgement, Summary
from monosemy.interp.statistics.ranks import area_under_roc
from monosemy.interp.statistics.ranks import auroc as plain_auroc
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.tiers import ACTIVATING


def auroc(judgements: Sequence[Judgement], headline: str, z: float = Z95) -> Summary:
    """The score against the negatives of tier ``headline``; the others are in ``details``.

    The chance that an activating example's ``value`` is above a negative's (ties 1/2).  Documents
    are clusters.  ``details`` has the area for every tier (``tiers``), and for every stratum of the
    activating examples against the headline's negatives (``by_group``).  In ``worst_case`` failed
    judgements rank worst: below all for an activating example, above all for another.  Raises
    ``ValueError`` for a value that is not a number.
    """
    positives = [j for j in judgements if j.tier == ACTIVATING]
    tiers = list(dict.fromkeys(j.tier for j in judgements if j.tier != ACTIVATING))
    by_tier = {tier: [j for j in judgements if j.tier == tier] for tier in tiers}
    parts = {tier: _against(positives, negatives, z) for tier, negatives in by_tier.items()}
    main = parts.get(headline) or _against(positives, [], z)
    return Summary(
        metric="auroc",
        value=main["value"],
        low=main["low"],
        high=main["high"],
        worst_case=main["worst_case"],
        details={
            "n_positive": main["n_positive"],
            "n_negative": main["n_negative"],
            "by_group": _by_group(positives, by_tier.get(headline, []), z),
            "tiers": parts,
        },
    )


def _by_group(
    positives: Sequence[Judgement], negatives: Sequence[Judgement], z: float
) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Judgement]] = {}
    for judgement in positives:
        groups.setdefault(str(judgement.group), []).append(judgement)
    # "2" before "10".
    ordered = sorted(groups, key=lambda group: (len(group), group))
    return {group: _against(groups[group], negatives, z) for group in ordered}


def _against(
    positives: Sequence[Judgement], negatives: Sequence[Judgement], z: float
) -> dict[str, Any]:
    judged_positives, documents_P = _values(positives)
    judged_negatives, documents_N = _values(negatives)
    area = area_under_roc(judged_positives, judged_negatives, documents_P, documents_N, z)
    worst = None
    if positives and negatives:
        worst = plain_auroc(
            [-math.inf if j.value is None else j.value for j in positives],
            [math.inf if j.value is None else j.value for j in negatives],
        )
    return {**area.as_dict(), "worst_case": worst}


def _values(judgements: Sequence[Judgement]) -> tuple[list[float], list[int]]:
    """Values and documents of those that have a value."""
    judged = [(j.value, j.document) for j in judgements if j.value is not None]
    return [value for value, _ in judged], [document for _, document in judged]
