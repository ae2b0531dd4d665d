"""Discrimination with a judge: which texts are this feature's, and which are of features with
similar explanations?  What that means is in ``monosemy.interp.discrimination``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from monosemy.interp.scorers.base import ScoringExamples
from monosemy.interp.scorers.detection import DetectionScorer
from monosemy.interp.scorers.result import Judged
from monosemy.interp.tiers import NEAREST_EXPLANATIONS


class DiscriminationScorer(DetectionScorer):
    """Detection's question and prompt; balanced accuracy between the feature's own activating texts
    and those of features with the nearest explanations.  ``FeatureTexts.know_nearest`` says who
    they are, ``details["neighbours"]`` who they were."""

    name = "discrimination"
    headline = NEAREST_EXPLANATIONS

    def tiers(self, asked: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002
        return (NEAREST_EXPLANATIONS,)

    async def judge(self, explanation: str, examples: ScoringExamples) -> Judged:
        """Raises as detection does; with one explained feature there are no neighbours."""
        judged = await super().judge(explanation, examples)
        shown = examples.negatives.get(NEAREST_EXPLANATIONS, ())
        groups = list(dict.fromkeys(str(each.group) for each in shown))
        return replace(judged, details={**judged.details, "neighbours": groups})
