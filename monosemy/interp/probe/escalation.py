"""Probabilities that mean what they say, and which of them go to the expensive judge.  numpy only.

J. Platt, Probabilistic outputs for support vector machines (1999), for the calibration; R. El-Yaniv
and Y. Wiener, JMLR 11 (2010) 1605, for answering only where one is sure.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from monosemy.interp.probe.linear import Floats, fit_logistic, sigmoid


@dataclass(frozen=True)
class Platt:
    """``p = sigmoid(slope * logit + shift)``."""

    slope: float
    shift: float

    def probabilities(self, logit_N: Floats) -> Floats:
        return sigmoid(self.slope * np.asarray(logit_N, dtype=np.float64) + self.shift)


def fit_platt(logit_N: Floats, truth_N: NDArray[np.bool_]) -> Platt:
    """Fitted on logits of features that their model did not see.

    A slope below 0 is set to 0: over pure noise, held-out logits run slightly against the truth,
    and turning them round would be learning that.
    """
    fitted = fit_logistic(np.asarray(logit_N)[:, None], truth_N, 100.0)
    if fitted.weight_D[0] > 0:
        return Platt(float(fitted.weight_D[0]), fitted.bias)
    level = fit_logistic(np.zeros((len(truth_N), 1)), truth_N, 1.0)
    return Platt(0.0, level.bias)


@dataclass(frozen=True)
class Band:
    """Probabilities in [low, high] are not the probe's to answer; low > high: none is."""

    low: float
    high: float

    def unsure(self, p_N: Floats) -> NDArray[np.bool_]:
        p_N = np.asarray(p_N, dtype=np.float64)
        return (p_N >= self.low) & (p_N <= self.high)

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


NOTHING = Band(1.0, 0.0)
EVERYTHING = Band(0.0, 1.0)


def choose_band(p_N: Floats, answer_N: NDArray[np.bool_], wanted: float) -> Band:
    """The narrowest band about 1/2 with which the whole agrees with the judge as ``wanted``.

    Items in the band go to the judge and so agree with it.  Raises ``ValueError`` for ``wanted``
    beyond [0, 1] or no items.
    """
    p_N = np.asarray(p_N, dtype=np.float64)
    if not 0 <= wanted <= 1 or not len(p_N):
        raise ValueError("a band needs items and an agreement in [0, 1]")
    distance_N = np.abs(p_N - 0.5)
    wrong_N = (p_N >= 0.5) != answer_N
    allowed = (1 - wanted) * len(p_N) + 1e-9
    if wrong_N.sum() <= allowed:
        return NOTHING
    for width in np.unique(distance_N):
        if wrong_N[distance_N > width].sum() <= allowed:
            # A hair wider: 0.5 - width need not be the very float that p was.
            return Band(0.5 - float(width) - 1e-12, 0.5 + float(width) + 1e-12)
    return EVERYTHING
