"""Few columns chosen by how their means differ, and a logistic probe on them.

The rule of ``sae-probes`` (Kantamneni et al., arXiv 2502.16681, section 3), but columns are scaled
to unit deviation before the fit: unscaled, one large column keeps the solver from converging.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from monosemy.benchmarking.probing.tasks import Labels

STRENGTHS = tuple(float(each) for each in np.logspace(5, -5, 10))
"""Inverse penalties that are tried."""
_MOST_VALIDATED, _VALIDATED_SHARE = 100, 0.2
_ITERATIONS = 1000

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Told:
    """How well a probe tells texts that it was not fitted to."""

    auc: float
    accuracy: float
    f1: float
    """Mean over both classes, by their sizes."""
    validation_auc: float
    """Area of the chosen strength on the texts that chose it."""
    converged: bool


def one_thread() -> AbstractContextManager[Any]:
    """Within, matrix products of numpy take one thread: a probe is too small for more, and waits
    for them (512 columns ten times as long on two cores)."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(limits=1, user_api="blas")
    return limits


def chosen_columns(z_ND: Floats, on_N: Labels, k: int) -> npt.NDArray[np.int64]:
    """The ``k`` columns whose means over the two classes lie furthest apart, in units of each
    column's mean magnitude where it is not 0; the furthest first, of equals the first.  Columns
    that are always 0 come last."""
    magnitude_D = np.abs(z_ND).sum(0) / np.maximum((z_ND != 0).sum(0), 1)
    apart_D = np.abs(z_ND[on_N].mean(0) - z_ND[~on_N].mean(0))
    scaled_D = np.divide(apart_D, magnitude_D, out=np.zeros_like(apart_D), where=magnitude_D > 0)
    return np.argsort(-scaled_D, kind="stable")[:k]


def told(train_ND: Floats, train_N: Labels, test_MD: Floats, test_M: Labels) -> Told:
    """A logistic probe with an L2 penalty, whose strength is chosen by area on the last fifth of
    the fitted texts (100 at most), fitted again to all."""
    from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

    mean_D, deviation_D = train_ND.mean(0), train_ND.std(0)
    deviation_D = np.where(deviation_D > 0, deviation_D, np.inf)
    train_ND, test_MD = (
        ((each - mean_D) / deviation_D).astype(np.float64) for each in (train_ND, test_MD)
    )
    held = max(2, min(int(_VALIDATED_SHARE * len(train_N)), _MOST_VALIDATED))
    validated, strength = _chosen_strength(train_ND, train_N, held)
    model = _fitted(train_ND, train_N, strength)
    score_M = model.decision_function(test_MD)
    return Told(
        auc=float(roc_auc_score(test_M, score_M)),
        accuracy=float(accuracy_score(test_M, score_M > 0)),
        f1=float(f1_score(test_M, score_M > 0, average="weighted")),
        validation_auc=validated,
        converged=bool(model.n_iter_[0] < _ITERATIONS),
    )


def _chosen_strength(x_ND: Floats, on_N: Labels, held: int) -> tuple[float, float]:
    """(area, strength); of equals the weakest penalty, and the middle where nothing can choose."""
    from sklearn.metrics import roc_auc_score

    fit_N, valid_N = on_N[:-held], on_N[-held:]
    if len({*valid_N}) < 2 or len({*fit_N}) < 2:
        return float("nan"), 1.0
    best = (-1.0, 1.0)
    for strength in STRENGTHS:
        model = _fitted(x_ND[:-held], fit_N, strength)
        area = float(roc_auc_score(valid_N, model.decision_function(x_ND[-held:])))
        if area > best[0]:
            best = area, strength
    return best


def _fitted(x_ND: Floats, on_N: Labels, strength: float) -> Any:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is counted instead
        return model.fit(x_ND, on_N)
