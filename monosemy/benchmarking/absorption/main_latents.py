"""Latents that stand for a letter: those of a sparse probe on codes, as few as tell it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.stats import hypergeom
from torch import Tensor

from monosemy.saes.codes import Codes

_STEPS = 300
_NEWTON = 50
_CHANCE = 0.01
"""That any letter gets a latent which by chance alone says yes to so many of its words."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def sparse_codes(codes: Codes, scale_F: Tensor) -> sp.csr_array:
    """``[n, d_sae]``: activations times a factor for each latent."""
    n, k = codes.indices.shape
    values = (codes.values.double() * scale_F.double()[codes.indices]).numpy()
    rows = np.repeat(np.arange(n), k)
    made = sp.coo_array(
        (values.ravel(), (rows, codes.indices.numpy().ravel())), shape=(n, len(scale_F))
    ).tocsr()
    made.eliminate_zeros()
    return made


def main_latents(
    fit: tuple[sp.csr_array, Bools],
    chosen_by: tuple[sp.csr_array, Bools],
    penalty: float,
    most: int,
    rise: float,
) -> list[list[int]]:
    """Of each of L letters, from codes ``[n, d_sae]`` and labels ``[n, L]``; may be none.

    The latents of the ``most`` largest positive weights of a probe with an L1 ``penalty`` are taken
    one after the other as long as F1 of a probe on them alone rises by more than ``rise`` on the
    words ``chosen_by``, the first one from what saying yes to all words would have.  That one must
    also be right more often than chance: of few words, F1 rises by luck (hypergeometric tail, all
    letters together).
    """
    weight_FL = _lasso(*fit, penalty)
    found = []
    for letter in range(weight_FL.shape[1]):
        column_F = weight_FL[:, letter]
        order = np.argsort(-column_F, kind="stable")[:most]
        ranked = [int(latent) for latent in order if column_F[latent] > 0]
        labels_N, other_N = fit[1][:, letter], chosen_by[1][:, letter]
        x_NK, other_NK = (each[0][:, ranked].toarray() for each in (fit, chosen_by))
        reached = _f1(np.ones_like(other_N), other_N)
        count = 0
        for k in range(1, len(ranked) + 1):
            weights_K, bias = _balanced(x_NK[:, :k], labels_N)
            says_N = other_NK[:, :k] @ weights_K + bias > 0
            now = _f1(says_N, other_N)
            if now <= reached + rise:
                break
            if k == 1 and _by_chance(says_N, other_N) > _CHANCE / weight_FL.shape[1]:
                break
            reached, count = now, k
        found.append(ranked[:count])
    return found


def _f1(says_N: Bools, is_N: Bools) -> float:
    return 2 * float((says_N & is_N).sum()) / max(float(says_N.sum() + is_N.sum()), 1.0)


def _by_chance(says_N: Bools, is_N: Bools) -> float:
    """Probability of so many right ones or more, had the letters been shuffled."""
    hits = int((says_N & is_N).sum())
    return float(hypergeom.sf(hits - 1, len(is_N), int(is_N.sum()), int(says_N.sum())))


def _balancing(labels_NL: Bools) -> Floats:
    """Weights of words, whose sum over each letter's words is that over all others, mean 1."""
    count_L = labels_NL.sum(0)
    n = len(labels_NL)
    return np.where(
        labels_NL, n / (2 * np.maximum(count_L, 1)), n / (2 * np.maximum(n - count_L, 1))
    )


def _lasso(x_NF: sp.csr_array, labels_NL: Bools, penalty: float) -> Floats:
    """``[d_sae, L]``: weights of the least mean balanced log loss plus ``penalty`` times the sum of
    their sizes, by accelerated proximal steps (A. Beck and M. Teboulle, SIAM J. Imaging Sciences 2
    (2009) 183).

    Codes are not negative, so that ``sum_i s_i z_ij sum_l z_il / 4n`` bounds the curvature column
    by column: each has a step of its own.
    """
    n, share_NL = x_NF.shape[0], _balancing(labels_NL) / x_NF.shape[0]
    back_FN = x_NF.T.tocsr()
    row_N = np.asarray(x_NF.sum(1)).ravel() + 1.0
    curve_FL = back_FN @ (share_NL * row_N[:, None]) / 4
    curve_L = (share_NL * row_N[:, None]).sum(0) / 4
    step_FL = 1 / np.maximum(curve_FL, 1e-12)
    weight_FL, bias_L = np.zeros((x_NF.shape[1], labels_NL.shape[1])), np.zeros(labels_NL.shape[1])
    ahead_FL, ahead_L, momentum = weight_FL, bias_L, 1.0
    for _ in range(_STEPS if n else 0):
        pull_NL = share_NL * (_sigmoid(x_NF @ ahead_FL + ahead_L) - labels_NL)
        moved_FL = ahead_FL - step_FL * (back_FN @ pull_NL)
        new_FL = np.sign(moved_FL) * np.maximum(np.abs(moved_FL) - step_FL * penalty, 0.0)
        new_L = ahead_L - pull_NL.sum(0) / curve_L
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        along = (momentum - 1) / following
        ahead_FL = new_FL + along * (new_FL - weight_FL)
        ahead_L = new_L + along * (new_L - bias_L)
        weight_FL, bias_L, momentum = new_FL, new_L, following
    return weight_FL


def _balanced(x_NK: Floats, labels_N: Bools) -> tuple[Floats, float]:
    """Weights and bias of balanced logistic regression with half the squared weights as penalty."""
    share_N = _balancing(labels_N[:, None])[:, 0]
    with_one_NK = np.concatenate([x_NK, np.ones((len(x_NK), 1))], 1)
    ridge_K = np.append(np.ones(x_NK.shape[1]), 1e-9)
    sign_N = np.where(labels_N, 1.0, -1.0)

    def loss(weight_K: Floats) -> float:
        misfit = share_N @ np.logaddexp(0.0, -sign_N * (with_one_NK @ weight_K))
        return float(misfit + ridge_K @ weight_K**2 / 2)

    weight_K = np.zeros(len(ridge_K))
    for _ in range(_NEWTON):
        likely_N = _sigmoid(with_one_NK @ weight_K)
        slope_K = with_one_NK.T @ (share_N * (likely_N - labels_N)) + ridge_K * weight_K
        curve_N = share_N * likely_N * (1 - likely_N)
        curve_KK = (with_one_NK * curve_N[:, None]).T @ with_one_NK + np.diag(ridge_K)
        step_K = np.linalg.solve(curve_KK, slope_K)
        size, before = 1.0, loss(weight_K)
        while size > 1e-6 and loss(weight_K - size * step_K) > before:
            size /= 2
        weight_K = weight_K - size * step_K
        if np.abs(step_K).max() < 1e-8:
            break
    return weight_K[:-1], float(weight_K[-1])


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))
