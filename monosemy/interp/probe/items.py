"""What a probe learns from: an explanation, a text, and what the expensive judge said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monosemy.errors import DataError
from monosemy.interp.scorers.base import ScoringExamples
from monosemy.interp.scorers.result import Judgement

RADIUS = 16
"""Tokens kept on each side of the centre, as detection shows a text."""


@dataclass(frozen=True)
class JudgedItem:
    """One text judged by one explanation."""

    feature: int
    """Splits keep all items of a feature together."""
    explanation: str
    text: str
    answer: bool
    """The expensive judge's."""
    repeat: bool | None = None
    """Its answer when it was asked again, where it was."""


def items_of(
    explanation: str,
    examples: ScoringExamples,
    judgements: Sequence[Judgement],
    repeats: Sequence[Judgement] = (),
    radius: int = RADIUS,
) -> list[JudgedItem]:
    """Items out of detection's judgements of ``examples``; failed ones are left out.

    ``repeats`` are judgements of the same examples asked again.  Raises ``DataError`` for a
    judgement of an example that is not among ``examples``.
    """
    shown = {
        f"{tier}:{example.row}:{example.position}": example
        for tier, example in examples.with_tiers()
    }
    again = {judgement.id: judgement.answer for judgement in repeats}
    items = []
    for judgement in judgements:
        if judgement.answer is None:
            continue
        if judgement.id not in shown:
            raise DataError(f"There is no example {judgement.id} of feature {examples.feature}.")
        items.append(
            JudgedItem(
                examples.feature,
                explanation,
                shown[judgement.id].cropped(radius).text,
                judgement.answer,
                again.get(judgement.id),
            )
        )
    return items
