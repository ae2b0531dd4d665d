"""Discrimination: can an explanation tell its feature from those with the nearest explanations?

Random texts are easy to reject: "words about sport" and "names of football clubs" may score alike
in detection on one feature.  Here the negatives are texts on which the k features with the most
similar explanations fire and this one is silent.  0.5 means that the explanation says no more than
its neighbours' do: all of them describe a topic that several features share, whichever scores well
("Descriptive Collision", arXiv 2605.12874).  Explanations that are equal word for word cannot do
better, whatever the judge.

Neighbours are those of the explanations given, so scores compare among runs of one set of
explanations; more explained features lie closer together and are harder to tell apart.  The tier
``neighbour`` is about features near in the SAE's geometry instead, whatever is said of them.

With a judge it is the scorer ``discrimination`` (``scorers.discrimination``), for which
``FeatureTexts.know_nearest`` must be given what ``nearest_explanations`` returns; here is the form
without one, ``rank_features``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from monosemy.errors import DataError
from monosemy.interp.embedding import unit_vectors
from monosemy.interp.nearest import nearest_rows, unit_rows
from monosemy.interp.scorers.base import ScoringExamples
from monosemy.interp.scorers.embedding import DECIMALS
from monosemy.interp.shown import ShownExample
from monosemy.interp.statistics.ranks import midranks
from monosemy.interp.statistics.rates import rate_of
from monosemy.interp.statistics.student import mean_interval
from monosemy.interp.texts import FeatureTexts
from monosemy.interp.tiers import NEAREST_EXPLANATIONS
from monosemy.interp.tools import Embed
from monosemy.progress import SILENT, Reporter
from monosemy.specs import ScoringSpec

K = 8
"""Nearest explanations that a feature is compared with."""


def nearest_explanations(
    features: Sequence[int], vectors_ND: npt.ArrayLike, k: int = K
) -> dict[int, list[tuple[int, float]]]:
    """For each of ``features`` the k with the nearest explanations, nearest first, and cosines.

    ``vectors_ND`` are embeddings of their explanations, in their order.  Exact, in tiles: time
    O(n^2 d), memory O(n k).  Raises ``DataError`` for unequal lengths, repeated features and
    unusable vectors.
    """
    unit_ND = unit_rows(vectors_ND)
    if len(unit_ND) != len(features) or len(set(features)) != len(features):
        raise DataError("One vector for each of different features is needed.")
    rows_NK, cosines_NK = nearest_rows(unit_ND, min(k, max(0, len(features) - 1)))
    return {
        feature: [
            (features[row], cosine)
            for row, cosine in zip(rows.tolist(), cosines.tolist(), strict=True)
            if row >= 0
        ]
        for feature, rows, cosines in zip(features, rows_NK, cosines_NK, strict=True)
    }


@dataclass(frozen=True)
class Ranked:
    """Where a feature comes among its neighbours by the embedder alone."""

    feature: int
    own: float
    """Mean cosine of the explanation with the feature's own activating texts."""
    others: tuple[float, ...]
    """The same with each neighbour's texts in which this feature is silent."""

    @property
    def rank(self) -> float:
        """1 if its own texts lie nearest; equal ones share their mean rank."""
        values = np.round([self.own, *self.others], DECIMALS)
        return float(midranks(-values)[0])

    @property
    def win_rate(self) -> float:
        """Share of neighbours whose texts lie farther off, ties 1/2: an AUROC; guessing gives
        0.5."""
        return (len(self.others) + 1 - self.rank) / len(self.others)


async def rank_among(
    embed: Embed, explanation: str, examples: ScoringExamples, radius: int = 16
) -> Ranked:
    """The rank of ``examples.activating`` among the neighbours of tier ``nearest_explanations``,
    whose texts ``group`` distinguishes.

    Raises ``DataError`` without texts of both kinds, or for unusable vectors.
    """
    piles: dict[Any, list[ShownExample]] = {}
    for example in examples.negatives.get(NEAREST_EXPLANATIONS, ()):
        piles.setdefault(example.group, []).append(example)
    if not examples.activating or not piles:
        raise DataError(
            "Discrimination needs activating texts, and texts of features with near explanations.",
            "Explain more features, or index more text.",
        )
    groups: list[Sequence[ShownExample]] = [examples.activating, *piles.values()]
    example_texts = [example.cropped(radius).text for group in groups for example in group]
    vectors_ND = await unit_vectors(embed, [explanation, *example_texts])
    cosines = vectors_ND[1:] @ vectors_ND[0]
    ends = np.cumsum([len(group) for group in groups])[:-1]
    own, *others = (float(part.mean()) for part in np.split(cosines, ends))
    return Ranked(examples.feature, own, tuple(others))


async def rank_features(
    texts: FeatureTexts,
    explanations: Mapping[int, str],
    spec: ScoringSpec,
    embed: Embed,
    k: int = K,
    reporter: Reporter = SILENT,
) -> list[Ranked]:
    """``rank_among`` for every explained feature with texts enough; embeds the explanations first.

    ``spec`` says how many texts of each kind, and their seed.  Tells ``texts`` who is nearest.
    Raises ``DataError`` for fewer than two features and unusable vectors.
    """
    await tell_nearest(texts, explanations, embed, k)
    ranked = []
    with reporter.stage("discrimination", len(explanations), "features") as stage:
        for feature in sorted(explanations):
            reporter.check()
            examples = texts.to_score(feature, spec, (NEAREST_EXPLANATIONS,))
            if examples.activating and examples.negatives[NEAREST_EXPLANATIONS]:
                ranked.append(await rank_among(embed, explanations[feature], examples))
            stage.advance(1)
    return ranked


async def tell_nearest(
    texts: FeatureTexts, explanations: Mapping[int, str], embed: Embed, k: int = K
) -> None:
    """Tells ``texts`` which explanations are nearest to each, as the scorer ``discrimination``
    wants it.  Raises ``DataError`` for fewer than two and for unusable vectors."""
    if len(explanations) < 2:
        raise DataError("Discrimination needs at least two explained features.")
    features = sorted(explanations)
    vectors_ND = await unit_vectors(embed, [explanations[feature] for feature in features])
    texts.know_nearest(nearest_explanations(features, vectors_ND, k))


def summary_of_ranks(ranks: Sequence[Ranked]) -> dict[str, Any]:
    """Over features: mean ``win_rate`` with Student's interval, and the share that comes ``first``
    with Wilson's, beside what guessing gives.

    Features that are each other's neighbours share texts, so the intervals are a little narrow.
    """
    mean, low, high = mean_interval([ranked.win_rate for ranked in ranks])
    first = rate_of([ranked.rank == 1 for ranked in ranks])
    guessed = [1 / (len(ranked.others) + 1) for ranked in ranks]
    return {
        "n": len(ranks),
        "win_rate": {"value": mean, "low": low, "high": high},
        "first": {"value": first.value, "low": first.low, "high": first.high},
        "first_by_chance": float(np.mean(guessed)) if guessed else None,
    }
