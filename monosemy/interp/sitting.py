"""A person takes the test that the scorer ``detection`` puts to a judge: the same texts of held-out
documents, shown the same way, answered one by one, summed up by the same functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from monosemy.errors import DataError
from monosemy.interp.scorers.balanced_accuracy import balanced_accuracy
from monosemy.interp.scorers.base import ScoringExamples, judgement_of, listed_as
from monosemy.interp.scorers.detection import DetectionScorer
from monosemy.interp.scorers.result import Judgement, ScoreResult
from monosemy.interp.scorers.yes_no import Item, mixed_calls
from monosemy.interp.scoring import with_natural_precision
from monosemy.interp.texts import FeatureTexts
from monosemy.interp.tiers import RANDOM
from monosemy.specs.scorers import DetectionScoring

RADIUS = 16
"""Tokens on either side of the middle that a judge is shown too."""


@dataclass(frozen=True)
class Question:
    """Does what the explanation describes occur in this text?"""

    text: str
    judgement: Judgement
    """Which text it is, and whether it activates; not answered yet."""


@dataclass(frozen=True)
class Sitting:
    """All questions on one explanation, in the order in which they are asked."""

    questions: tuple[Question, ...]
    context_density: float | None
    """Share of all contexts of this length in which the feature fires."""


def prepare_sitting(
    texts: FeatureTexts, feature: int, positives: int, negatives: int, seed: int
) -> Sitting:
    """The texts that ``detection`` judges under these numbers and this seed, shuffled.

    Raises ``DataError`` for a feature that fires in too few of the held-out documents, or in too
    many, to ask of both kinds.
    """
    texts.require(feature)
    spec = DetectionScoring(positives=positives, negatives=negatives, seed=seed)
    examples = texts.to_score(feature, spec, (RANDOM,))
    if not examples.activating or not examples.negatives[RANDOM]:
        raise DataError(
            f"Feature {feature} fires in too few of the documents that are kept for scoring, or in"
            " nearly all of them.",
            "Index more text, or choose another feature.",
        )
    items = [Item(key, tier, each) for key, (tier, each) in enumerate(examples.with_tiers())]
    (order,) = mixed_calls(items, len(items), seed)
    questions = [
        Question(item.example.cropped(RADIUS).text, judgement_of(item.tier, item.example))
        for item in order
    ]
    return Sitting(tuple(questions), examples.context_density)


def answered(sitting: Sitting, answers: Sequence[bool | None]) -> tuple[Judgement, ...]:
    """The judgements, None where no answer was given; in the order of ``sitting``."""
    return tuple(
        replace(question.judgement, answer=answer)
        for question, answer in zip(sitting.questions, answers, strict=True)
    )


def sitting_score(
    scorer: str, judgements: Sequence[Judgement], context_density: float | None = None
) -> ScoreResult:
    """``detection``'s score of ``judgements``, listed under ``scorer``: balanced accuracy with its
    interval, documents as clusters, and the precision in natural text."""
    summary = balanced_accuracy(judgements, DetectionScorer.headline)
    result = listed_as(scorer, summary, judgements)
    return with_natural_precision(result, ScoringExamples(-1, (), {}, context_density))
