"""Fuzzing: can a judge who knows only the explanation tell right marks from wrong ones?

All texts activate the feature; in half of them other tokens than the activating ones are marked,
as many and at the same places (``mis_marking``).  So the text alone says nothing, and what is
scored is whether the explanation names the tokens.  Balanced accuracy (Paulo et al., arXiv
2410.13928, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence

from monosemy.interp.prompts.quoting import quote_marked
from monosemy.interp.scorers.yes_no import YesNoScorer
from monosemy.interp.shown import ShownExample
from monosemy.interp.tiers import MIS_MARKED


class FuzzingScorer(YesNoScorer):
    """Marked texts: are the marked words what the explanation describes?"""

    name = "fuzzing"
    prompt_name = "fuzzing"
    headline = MIS_MARKED

    def tiers(self, asked: Sequence[str]) -> tuple[str, ...]:
        del asked  # silent texts would be told apart without a look at the marks
        return (MIS_MARKED,)

    def show(self, example: ShownExample) -> str:
        return quote_marked(example.runs())
