"""A threshold for a wanted rate of false alarms, from the scores of texts without the concept.

Conformal: of n such scores and one more, exchangeable with them, the last is above the k-th
smallest of the n with a chance of at most (n + 1 - k) / (n + 1) (Vovk, Gammerman and Shafer,
Algorithmic Learning in a Random World, 2005, chapter 2).  Clopper and Pearson: the chance that a
new score is above the k-th smallest is beta distributed with n + 1 - k and k degrees where scores
have no ties (Wilks 1941), which is the distribution of their bound for n - k hits of n; with ties
it is smaller still.  scipy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from monosemy.errors import DataError
from monosemy.figures import plural
from monosemy.specs.rest.concepts import ThresholdFigures

BOUND = 0.95
"""Confidence of the bound that is told beside."""


def least_texts(wanted: float, confidence: float | None) -> int:
    """The fewest texts without the concept for which there is a threshold."""
    if confidence is None:
        return max(1, math.ceil(round(1 / wanted - 1, 9)))
    return max(1, math.ceil(round(math.log(1 - confidence) / math.log(1 - wanted), 9)))


def find_threshold(
    scores: Sequence[float], wanted: float, confidence: float | None, tested: int = 0
) -> ThresholdFigures:
    """The lowest threshold that keeps false alarms to ``wanted``; ``tested``: texts without the
    concept that it is then tried on.

    ``DataError`` says how many texts are needed where there are too few.
    """
    n, least = len(scores), least_texts(wanted, confidence)
    if n < least:
        sure = "" if confidence is None else f" with a confidence of {confidence:.0%}"
        raise DataError(
            f"For at most {wanted:.2%} false alarms{sure} the threshold needs"
            f" {plural(least, 'retain text')}"
            f" of its own; there are {n}.",
            "Give more retain texts, a larger threshold_share, or a larger false_alarms.",
        )
    ranked = sorted(scores)
    place = _place(n, wanted, confidence)
    value = ranked[place - 1]
    above = sum(score > value for score in ranked)
    return ThresholdFigures(
        value=value,
        wanted=wanted,
        rule="conformal" if confidence is None else "clopper_pearson",
        confidence=confidence,
        texts=n,
        least=least,
        above=above,
        bound=upper_bound(n - place, n, BOUND),
        by_chance=most_by_chance(place, n, tested),
    )


def most_by_chance(place: int, n: int, tested: int) -> float | None:
    """The share of ``tested`` scores above the ``place``-th smallest of n that is not exceeded in
    95 of 100 cases where all are of one kind (beta-binomial: how far the threshold goes astray and
    how the tested ones fall, together)."""
    from scipy.stats import betabinom

    if tested == 0:
        return None
    return float(betabinom.ppf(BOUND, tested, n + 1 - place, place)) / tested


def upper_bound(hits: int, n: int, confidence: float) -> float:
    """Clopper and Pearson's bound of a rate of which ``hits`` of n were seen: it is no higher, with
    this confidence."""
    from scipy.stats import beta

    return 1.0 if hits >= n else float(beta.ppf(confidence, hits + 1, n - hits))


def _place(n: int, wanted: float, confidence: float | None) -> int:
    """Which of n ascending scores is the threshold, from 1; there are enough."""
    if confidence is None:
        return min(n, math.ceil(round((n + 1) * (1 - wanted), 9)))
    place = n
    while place > 1 and upper_bound(n - place + 1, n, confidence) <= wanted:
        place -= 1
    return place
