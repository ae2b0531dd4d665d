"""PCA, then logistic regression with an L2 penalty.  numpy only.

PCA-50, standardised, then logistic regression is the recipe of INSPECTOR (representation as a
judge).  Newton's method for the fit: T. Hastie, R. Tibshirani and J. Friedman, The Elements of
Statistical Learning (2009), section 4.4.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
COMPONENTS = 50
_STEPS = 100
_SMALL = 1e-9


@dataclass(frozen=True)
class Linear:
    """``logit = x @ weight_D + bias``."""

    weight_D: Floats
    bias: float

    def logits(self, x_ND: Floats) -> Floats:
        return np.asarray(x_ND, dtype=np.float64) @ self.weight_D + self.bias


@dataclass(frozen=True)
class Axes:
    """Principal axes, each scaled to unit variance over the data they were found in."""

    mean_D: Floats
    axes_DK: Floats

    def project(self, x_ND: Floats) -> Floats:
        return (np.asarray(x_ND, dtype=np.float64) - self.mean_D) @ self.axes_DK

    def unfold(self, fitted: Linear) -> Linear:
        """A model over projections as one over the data themselves."""
        weight_D = self.axes_DK @ fitted.weight_D
        return Linear(weight_D, fitted.bias - float(self.mean_D @ weight_D))


def principal_axes(x_ND: Floats, components: int = COMPONENTS) -> Axes:
    """The ``components`` axes of largest variance, fewer where the data have no more."""
    x_ND = np.asarray(x_ND, dtype=np.float64)
    mean_D = x_ND.mean(axis=0)
    _, size_K, axes_KD = np.linalg.svd(x_ND - mean_D, full_matrices=False)
    kept = (size_K > _SMALL * max(float(size_K[0]), _SMALL)).nonzero()[0][:components]
    spread_K = size_K[kept] / np.sqrt(len(x_ND))
    return Axes(mean_D, (axes_KD[kept] / spread_K[:, None]).T)


def span_axes(x_ND: Floats) -> Axes:
    """As few unit axes as hold all rows, neither centred nor scaled.

    A penalised fit over the projections is that over the data: its optimum lies in their span.
    """
    square_R, left_NR = np.linalg.eigh(x_ND @ x_ND.T)
    kept = square_R > _SMALL * max(float(square_R[-1]), _SMALL)
    axes_DR = (x_ND.T @ left_NR[:, kept]) / np.sqrt(square_R[kept])
    return Axes(np.zeros(x_ND.shape[1]), axes_DR)


def fit_logistic(x_ND: Floats, truth_N: NDArray[np.bool_], c: float) -> Linear:
    """Minimises ``sum log loss + |weight|^2 / (2 c)``; the bias has no penalty but a speck.

    Newton's method with halved steps; where columns are more than rows, ``span_axes`` first.
    """
    x_ND = np.asarray(x_ND, dtype=np.float64)
    one_ND = np.column_stack([x_ND, np.ones(len(x_ND))])
    penalty_D = np.full(one_ND.shape[1], 1 / c)
    penalty_D[-1] = 1e-3  # a single class would else send the bias to infinity
    target_N = np.asarray(truth_N, dtype=np.float64)
    weight_D = np.zeros(one_ND.shape[1])
    loss = _loss(one_ND, target_N, weight_D, penalty_D)
    for _ in range(_STEPS):
        p_N = sigmoid(one_ND @ weight_D)
        slope_D = one_ND.T @ (p_N - target_N) + penalty_D * weight_D
        curve_DD = (one_ND.T * (p_N * (1 - p_N))) @ one_ND + np.diag(penalty_D)
        step_D = np.linalg.solve(curve_DD, slope_D)
        size = 1.0
        while size > _SMALL:
            new = _loss(one_ND, target_N, weight_D - size * step_D, penalty_D)
            if new <= loss:
                break
            size /= 2
        else:
            break
        weight_D, gained, loss = weight_D - size * step_D, loss - new, new
        if gained <= _SMALL * (1 + abs(loss)):
            break
    return Linear(weight_D[:-1], float(weight_D[-1]))


def log_loss(logit_N: Floats, truth_N: NDArray[np.bool_]) -> float:
    """Mean of -log p(truth), in nats."""
    return float(np.mean(np.logaddexp(0.0, np.where(truth_N, -logit_N, logit_N))))


def sigmoid(logit_N: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(np.asarray(logit_N, dtype=np.float64) / 2))


def _loss(x_ND: Floats, target_N: Floats, weight_D: Floats, penalty_D: Floats) -> float:
    logit_N = x_ND @ weight_D
    fit = np.logaddexp(0.0, logit_N) - target_N * logit_N
    return float(fit.sum() + 0.5 * (penalty_D * weight_D**2).sum())
