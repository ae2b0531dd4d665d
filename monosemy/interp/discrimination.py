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

The scorer is ``scorers.discrimination``; before it is asked, ``FeatureTexts.know_nearest`` must be
given what ``nearest_explanations`` returns, which ``tell_nearest`` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy.typing as npt

from monosemy.errors import DataError
from monosemy.interp.embedding import unit_vectors
from monosemy.interp.nearest import nearest_rows, unit_rows
from monosemy.interp.texts import FeatureTexts
from monosemy.interp.tools import Embed

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
