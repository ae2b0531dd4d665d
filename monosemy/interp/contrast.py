"""Features that separate one set of texts from another, with p-values.

Each text is one observation: a feature has one value on it, pooled over the text's tokens, since
tokens of one text do not vary independently.  All statistics here are differences of class means of
a score that does not depend on the labels:

* ``standardised``: the value over its standard deviation among all texts, classes joined.
* ``auroc``: the score is the midrank; AUROC = 1/2 + (mean rank of positives - of negatives) / n
  (Mann and Whitney, Annals of Mathematical Statistics 18 (1947) 50).
* ``share``: 1 where the feature fires anywhere in the text.

The best of thousands of features looks good by chance alone, so each p-value is that of the best:
the share of relabellings of the texts under which any feature of the SAE does at least as well
(P. H. Westfall and S. S. Young, Resampling-Based Multiple Testing, Wiley 1993, single-step maxT).
With few texts no p-value can be small: of 2 + 2 there are 6 labellings, so none is below 1/6.
Areas are coarse then, and one of thousands of features soon reaches 1 by chance: the standardised
difference has more power (8 + 8 texts, 1,152 coordinates of SmolLM2, French against English: best
p 0.001, by area 0.08).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from monosemy.interp.statistics.ranks import midranks
from monosemy.specs.inference.contrast import Difference, Statistic

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

RELABELLINGS = 999
"""Where there are no more than these and the true one, all are tried, else so many at random."""

RESOLUTION = 1e-4
"""Values closer than this, as a share of the feature's largest, are equal: texts that begin alike
have like values, and which batch a text was read in must not rank them."""

_BLOCK = 4096
"""Features at a time."""
_SLACK = 1e-9
"""Relabellings whose statistic is smaller by rounding alone count as equal."""


@dataclass(frozen=True)
class Contrast:
    """Features that are higher on the positives, and features that are higher on the negatives."""

    positive: list[Difference]
    """Largest statistic first; ties by the standardised difference, then by index."""
    negative: list[Difference]
    """Smallest statistic first."""
    relabellings: int
    """Labellings behind the p-values, the true one among them."""
    exact: bool
    """Whether those were all there are."""


def contrast(
    values_NF: npt.ArrayLike,
    positive_N: Sequence[bool] | Booleans,
    features_F: Sequence[int] | npt.NDArray[np.int64],
    statistic: Statistic,
    top: int,
    seed: int = 0,
    *,
    with_values: bool = False,
) -> Contrast:
    """The ``top`` features of each side, of those that differ; ``with_values``: with their values.

    ``values_NF`` are activations of n texts, at least 0; ``features_F`` names its columns.  Columns
    that are not there count as never firing, which changes no p-value.  Raises ``ValueError`` for
    an empty class, for shapes that do not fit and for values that are not finite.
    """
    values = np.asarray(values_NF, dtype=np.float64)
    names = np.asarray(features_F, dtype=np.int64)
    labels = np.asarray(positive_N, dtype=bool)
    if values.shape != (len(labels), len(names)):
        raise ValueError(f"values of shape {values.shape} for {len(labels)} x {len(names)}")
    if not labels.any() or labels.all():
        raise ValueError("a contrast needs texts of both classes")
    if not np.isfinite(values).all():
        raise ValueError("a value is not finite")
    largest_F = values.max(0, initial=0.0)
    unit_F = RESOLUTION * np.where(largest_F > 0, largest_F, 1.0)
    values = np.round(values / unit_F) * unit_F
    tried_BN, exact = labellings(labels, RELABELLINGS, seed)
    weights_BN = tried_BN / labels.sum() - ~tried_BN / (~labels).sum()
    observed_F = np.zeros(len(names))
    highest_B, lowest_B = np.zeros(len(tried_BN)), np.zeros(len(tried_BN))
    for start in range(0, len(names), _BLOCK):
        block = slice(start, start + _BLOCK)
        all_BF = weights_BN @ scores(values[:, block], statistic)
        observed_F[block] = all_BF[0]
        highest_B = np.maximum(highest_B, all_BF.max(1))
        lowest_B = np.minimum(lowest_B, all_BF.min(1))
    # Values equal up to rounding count as ties, so that the same keys break them everywhere.
    observed_F = np.round(observed_F, 9)
    standard_F = weights_BN[0] @ scores(values, "standardised")
    rising = np.lexsort((names, -standard_F, -observed_F))[:top]
    falling = np.lexsort((names, standard_F, observed_F))[:top]

    def differences(chosen: npt.NDArray[np.intp], sign: int, best_B: Floats) -> list[Difference]:
        return [
            _difference(
                int(names[f]),
                float(observed_F[f]),
                float((best_B >= sign * observed_F[f] - _SLACK).mean()),
                values[:, f],
                labels,
                with_values,
            )
            for f in chosen
            if sign * observed_F[f] > _SLACK
        ]

    return Contrast(
        differences(rising, 1, highest_B), differences(falling, -1, -lowest_B), len(tried_BN), exact
    )


def scores(values_NF: Floats, statistic: Statistic) -> Floats:
    """``[n, F]``, such that the statistic is the mean over positives less that over negatives."""
    if statistic == "auroc":
        return midranks(values_NF, axis=0) / len(values_NF)
    if statistic == "share":
        return (values_NF > 0).astype(np.float64)
    spread_F = values_NF.std(0)
    # Equal values may have a spread by rounding.
    varied_F = spread_F > _SLACK * values_NF.max(0, initial=0.0)
    return values_NF / np.where(varied_F, spread_F, np.inf)


def labellings(positive_N: Booleans, most: int, seed: int) -> tuple[Booleans, bool]:
    """(``[b, n]``, the true labelling first, then others with as many positives; whether all).

    Random ones may repeat, which the true one's place among them makes up for: the p-value is
    (1 + as good) / (1 + ``most``), which is valid (B. Phipson and G. K. Smyth, Statistical
    Applications in Genetics and Molecular Biology 9 (2010) 39).
    """
    n, chosen = len(positive_N), int(positive_N.sum())
    if math.comb(n, chosen) <= most + 1:
        all_BN = np.zeros((math.comb(n, chosen), n), dtype=bool)
        for row, places in enumerate(combinations(range(n), chosen)):
            all_BN[row, list(places)] = True
        true = int((all_BN == positive_N).all(1).argmax())
        return np.concatenate([all_BN[true : true + 1], np.delete(all_BN, true, 0)]), True
    chance = np.random.default_rng(seed)
    shuffled = [positive_N, *(chance.permutation(positive_N) for _ in range(most))]
    return np.array(shuffled), False


def _difference(
    feature: int,
    statistic: float,
    p_value: float,
    values_N: Floats,
    labels_N: Booleans,
    with_values: bool,
) -> Difference:
    def between(how: Statistic) -> float:
        score_N = scores(values_N[:, None], how)[:, 0]
        return float(score_N[labels_N].mean() - score_N[~labels_N].mean())

    first_P, second_N = values_N[labels_N], values_N[~labels_N]
    return Difference(
        feature=feature,
        statistic=statistic,
        p_value=p_value,
        auroc=between("auroc") + 0.5,
        standardised=between("standardised"),
        mean_positive=float(first_P.mean()),
        mean_negative=float(second_N.mean()),
        share_positive=float((first_P > 0).mean()),
        share_negative=float((second_N > 0).mean()),
        values=[float(f"{value:.6g}") for value in values_N] if with_values else None,
    )
