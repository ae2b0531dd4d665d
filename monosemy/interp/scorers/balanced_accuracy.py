"""Balanced accuracy of yes-or-no judgements, (TPR + TNR) / 2, with each tier of negatives apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monosemy.interp.scorers.result import Judgement, Summary
from monosemy.interp.statistics.rates import Z95, Rate, newcombe_mean, rate_of, worst_case
from monosemy.interp.tiers import ACTIVATING


def balanced_accuracy(judgements: Sequence[Judgement], headline: str, z: float = Z95) -> Summary:
    """The score against the negatives of tier ``headline``; the others are in ``details``.

    Documents are clusters.  ``details`` has the confusion counts, both rates, recall by stratum
    and, for every tier, its own rate and balanced accuracy.
    """
    positives = [j for j in judgements if j.tier == ACTIVATING]
    tiers = list(dict.fromkeys(j.tier for j in judgements if j.tier != ACTIVATING))
    by_tier = {tier: [j for j in judgements if j.tier == tier] for tier in tiers}
    tpr = _rate(positives, z)
    parts = {tier: _against(positives, tpr, negatives, z) for tier, negatives in by_tier.items()}
    main = parts.get(headline) or _against(positives, tpr, [], z)
    return Summary(
        metric="balanced_accuracy",
        value=main["value"],
        low=main["low"],
        high=main["high"],
        worst_case=main["worst_case"],
        details={
            "confusion": main["confusion"],
            "tpr": tpr.as_dict(),
            "tnr": main["tnr"],
            "recall_by_group": recall_by_group(judgements, z),
            "tiers": parts,
        },
    )


def recall_by_group(judgements: Sequence[Judgement], z: float = Z95) -> dict[str, dict[str, Any]]:
    """Recall of the activating examples of each stratum, with n and interval."""
    groups: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        if judgement.tier == ACTIVATING:
            groups.setdefault(str(judgement.group), []).append(judgement)
    ordered = sorted(groups, key=lambda group: (len(group), group))
    return {group: _rate(groups[group], z).as_dict() for group in ordered}


def _against(
    positives: Sequence[Judgement], tpr: Rate, negatives: Sequence[Judgement], z: float
) -> dict[str, Any]:
    tnr = _rate(negatives, z)
    low, high = newcombe_mean(tpr, tnr)
    both = tpr.value is not None and tnr.value is not None
    hits = sum(j.answer is True for j in positives)
    rejections = sum(j.answer is False for j in negatives)
    return {
        "value": ((tpr.value or 0.0) + (tnr.value or 0.0)) / 2 if both else None,
        "low": low,
        "high": high,
        "worst_case": worst_case(hits, len(positives), rejections, len(negatives)),
        "tnr": tnr.as_dict(),
        "confusion": {
            "true_positives": hits,
            "false_negatives": tpr.n - hits,
            "true_negatives": rejections,
            "false_positives": tnr.n - rejections,
        },
    }


def _rate(judgements: Sequence[Judgement], z: float) -> Rate:
    """Share judged right, failed ones left out, documents as clusters."""
    judged = [j for j in judgements if j.answer is not None]
    return rate_of([j.answer is j.truth for j in judged], [j.document for j in judged], z)
