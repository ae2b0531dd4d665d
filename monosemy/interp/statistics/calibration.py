"""How far a judge's probabilities can be taken at their word.  numpy only.

All of it is over the examples given: with as many positives as negatives, a calibrated judge is
one that expects as many.  At another mix the same judge is calibrated otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Probabilities = Sequence[float] | NDArray[np.floating]
Truths = Sequence[bool] | NDArray[np.bool_]


@dataclass(frozen=True)
class Bin:
    """Examples of about the same probability."""

    low: float
    high: float
    n: int
    mean_probability: float
    share_true: float

    def as_dict(self) -> dict[str, float | int]:
        return asdict(self)


def brier_score(probabilities_N: Probabilities, truths_N: Truths) -> float:
    """Mean squared distance to the truth (G. W. Brier, Monthly Weather Review 78 (1950) 1).

    In [0, 1], 0 is perfect; always saying 1/2 gives 0.25.  The form for one of two classes, half of
    Brier's own sum over both.  Raises ``ValueError`` for no examples, or a probability beyond
    [0, 1].
    """
    p_N, truth_N = _checked(probabilities_N, truths_N)
    return float(np.mean((p_N - truth_N) ** 2))


def reliability(
    probabilities_N: Probabilities, truths_N: Truths, bins: int = 10
) -> tuple[Bin, ...]:
    """Said against seen, in ``bins`` equally wide bins (low, high], the first closed; empty ones
    left out.  Raises as ``brier_score``, and for ``bins`` < 1."""
    if bins < 1:
        raise ValueError(f"{bins} bins")
    p_N, truth_N = _checked(probabilities_N, truths_N)
    edges = np.arange(bins + 1) / bins
    bin_N = np.clip(np.searchsorted(edges, p_N, side="left") - 1, 0, bins - 1)
    found = []
    for b in np.unique(bin_N):
        inside = bin_N == b
        found.append(
            Bin(
                low=float(edges[b]),
                high=float(edges[b + 1]),
                n=int(inside.sum()),
                mean_probability=float(p_N[inside].mean()),
                share_true=float(truth_N[inside].mean()),
            )
        )
    return tuple(found)


def expected_calibration_error(
    probabilities_N: Probabilities, truths_N: Truths, bins: int = 10
) -> float:
    """Mean distance between said and seen over bins, weighted by their examples.

    Naeini, Cooper and Hauskrecht, AAAI 2015; equally wide bins as in Guo et al., arXiv 1706.04599.
    Biased upwards: each bin adds about 0.8 standard errors even for a calibrated judge (0.13 for 50
    examples spread over 10 bins), so compare it at equal n only.  Raises as ``reliability``.
    """
    table = reliability(probabilities_N, truths_N, bins)
    n = sum(entry.n for entry in table)
    return sum(entry.n * abs(entry.mean_probability - entry.share_true) for entry in table) / n


def _checked(
    probabilities_N: Probabilities, truths_N: Truths
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    p_N = np.asarray(probabilities_N, dtype=np.float64)
    truth_N = np.asarray(truths_N, dtype=np.float64)
    if not len(p_N) or p_N.shape != truth_N.shape:
        raise ValueError(f"{len(p_N)} probabilities for {len(truth_N)} truths")
    if not ((p_N >= 0) & (p_N <= 1)).all():
        raise ValueError("a probability is not between 0 and 1")
    return p_N, truth_N
