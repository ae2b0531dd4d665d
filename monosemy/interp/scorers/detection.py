"""Detection scoring: can a judge who knows only the explanation tell which texts activate?

The measure is balanced accuracy, (TPR + TNR) / 2 (Paulo et al., arXiv 2410.13928, section 4), on
documents that the explainer never saw, with an interval and a worst case.
"""

from __future__ import annotations

from collections.abc import Sequence

from monosemy.interp.prompts.quoting import quote
from monosemy.interp.scorers.yes_no import YesNoScorer
from monosemy.interp.shown import ShownExample
from monosemy.interp.tiers import RANDOM


class DetectionScorer(YesNoScorer):
    """Plain texts: does what the explanation describes occur in them?"""

    name = "detection"
    prompt_name = "detection"
    headline = RANDOM

    def tiers(self, asked: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys([RANDOM, *asked]))

    def show(self, example: ShownExample) -> str:
        return quote(example.cropped(self.radius).text)
