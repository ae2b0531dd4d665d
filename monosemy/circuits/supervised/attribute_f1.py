"""Which features stand for which values of an attribute: F1 of "the feature fires".  numpy, scipy.

Everything is chosen on the half that is fitted to and told of the other half.  Sources: A. Makelov,
G. Lange and N. Nanda, arXiv 2405.08366, section 6, for single features and unions in the order of
their F1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from torch import Tensor

from monosemy.interp.statistics.bootstrap import Bootstrapped, count_bootstrap
from monosemy.saes.codes import Codes

MOST_FEATURES = 64
"""Of a union of features for one value."""
CANDIDATES = 512
"""Features, by their F1, that a union is made of."""
LEAST_GAIN = 0.005
"""Of F1 on the fitted half: below it a union takes no further feature."""
MOST_VALUES = 10
"""Of a union of values for one feature; never more than half of the prompts."""
SHUFFLES = 20

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def fires(codes: Codes, features: int) -> Any:
    """``[n, features]`` sparse: 1 where a feature is active."""
    on_NK = (codes.values > 0).numpy()
    rows = np.nonzero(on_NK)[0]
    columns = codes.indices.numpy()[on_NK]
    shape = (len(on_NK), features)
    return sparse.csc_matrix((np.ones(len(rows), np.float64), (rows, columns)), shape)


@dataclass(frozen=True)
class Half:
    """Prompts of one half: which features fire, and each prompt's value of an attribute."""

    fires: Any
    """``[n, F]``, as ``fires`` makes it."""
    labels_N: Ints

    def is_value(self, values: int) -> Any:
        """``[n, values]`` sparse, one 1 in every row."""
        n = len(self.labels_N)
        return sparse.csr_matrix((np.ones(n), (np.arange(n), self.labels_N)), (n, values))


@dataclass(frozen=True)
class AttributeF1:
    """How an attribute of V values is found among features."""

    feature_V: Ints
    """The best single feature of each value."""
    single: Bootstrapped
    """F1 of these on the test half, the mean over values that occur there."""
    single_V: Floats
    """The same by value; NaN for one that does not occur."""
    unions: tuple[tuple[int, ...], ...]
    """Of each value the features whose union fits it best."""
    union: Bootstrapped
    union_V: Floats
    values_feature: int
    """The feature that fits a union of values best,"""
    values_union: tuple[int, ...]
    """these values,"""
    values_f1: float | None
    """and its F1 on the test half; None where they do not occur there."""
    null: float
    """``single`` with shuffled labels: the mean over shuffles."""
    null_high: float
    """The largest of them."""
    always: float
    """F1 of a feature that always fires, the mean over values."""


def attribute_f1(
    fit: Half, test: Half, values: int, seed: int = 0, resamples: int = 1000
) -> AttributeF1:
    """Single features, unions of features, a union of values, and the null."""
    f1_FV = _f1_table(fit, values)
    feature_V = f1_FV.argmax(0).astype(np.int64)
    truth_NV = test.is_value(values).toarray().astype(bool)
    guess_NV = _on(test.fires, feature_V)
    unions = tuple(_union(fit, value, f1_FV[:, value]) for value in range(values))
    union_NV = np.stack([_any(test.fires, each) for each in unions], 1)
    feature, together = _values_union(fit, f1_FV, values)
    rng = np.random.default_rng(seed % 2**63)
    nulls = [_shuffled(fit, test, values, rng) for _ in range(SHUFFLES)]
    known_N1 = np.isin(test.labels_N, together)[:, None]
    of_union = float(_f1_of(_on(test.fires, np.array([feature])), known_N1)[0])
    return AttributeF1(
        feature_V=feature_V,
        single=mean_f1(guess_NV, truth_NV, resamples, seed),
        single_V=_f1_of(guess_NV, truth_NV),
        unions=unions,
        union=mean_f1(union_NV, truth_NV, resamples, seed),
        union_V=_f1_of(union_NV, truth_NV),
        values_feature=feature,
        values_union=together,
        values_f1=None if np.isnan(of_union) else of_union,
        null=float(np.mean(nulls)),
        null_high=float(np.max(nulls)),
        always=_mean_present(_f1_of(np.ones_like(truth_NV), truth_NV)),
    )


def mean_f1(guess_NV: Bools, truth_NV: Bools, resamples: int, seed: int) -> Bootstrapped:
    """The mean over the values that occur of the F1 of a guess; prompts are resampled."""
    hits, guesses, truths = (
        each.astype(np.float32) for each in (guess_NV & truth_NV, guess_NV, truth_NV)
    )

    def of_counts(counts_RN: npt.NDArray[Any]) -> npt.NDArray[Any]:
        drawn = counts_RN.astype(np.float32)
        hit_RV, guess_RV, truth_RV = drawn @ hits, drawn @ guesses, drawn @ truths
        there_RV = truth_RV > 0
        f1_RV = 2 * hit_RV / np.maximum(guess_RV + truth_RV, 1e-9)
        mean_R: npt.NDArray[Any] = (f1_RV * there_RV).sum(1) / np.maximum(there_RV.sum(1), 1)
        return mean_R

    return count_bootstrap(
        of_counts, len(truth_NV), bounds=(0.0, 1.0), resamples=resamples, seed=seed % 2**63
    )


def _f1_table(half: Half, values: int) -> Floats:
    """``[F, V]``: F1 of every feature for every value."""
    truth = half.is_value(values)
    hit_FV = np.asarray((half.fires.T @ truth).todense())
    fired_F = np.asarray(half.fires.sum(0)).ravel()
    counts_V = np.asarray(truth.sum(0)).ravel()
    return 2 * hit_FV / np.maximum(fired_F[:, None] + counts_V[None, :], 1)


def _shuffled(fit: Half, test: Half, values: int, rng: np.random.Generator) -> float:
    """``single`` of labels that say nothing."""
    table = _f1_table(Half(fit.fires, rng.permutation(fit.labels_N)), values)
    other = Half(test.fires, rng.permutation(test.labels_N))
    truth_NV = other.is_value(values).toarray().astype(bool)
    return _mean_present(_f1_of(_on(test.fires, table.argmax(0)), truth_NV))


def _union(half: Half, value: int, f1_F: Floats) -> tuple[int, ...]:
    """Features in the order of how much each adds to the F1 of "any of them fires"."""
    order = np.argsort(-f1_F, kind="stable")[:CANDIDATES]
    order = order[f1_F[order] > 0]
    if not len(order):
        return ()
    on_NC = half.fires[:, order].toarray().astype(bool)
    truth_N = half.labels_N == value
    positives = int(truth_N.sum())
    covered_N = np.zeros(len(truth_N), bool)
    chosen: list[int] = []
    best = 0.0
    while len(chosen) < min(MOST_FEATURES, len(order)):
        fresh_NC = on_NC[~covered_N]
        hits_C = fresh_NC[truth_N[~covered_N]].sum(0) + int((covered_N & truth_N).sum())
        fired_C = fresh_NC.sum(0) + int(covered_N.sum())
        f1_C = 2 * hits_C / (fired_C + positives)
        place = int(f1_C.argmax())
        if f1_C[place] < best + LEAST_GAIN:
            break
        best = float(f1_C[place])
        chosen.append(int(order[place]))
        covered_N = covered_N | on_NC[:, place]
    return tuple(chosen)


def _values_union(half: Half, f1_FV: Floats, values: int) -> tuple[int, tuple[int, ...]]:
    """(feature, values): of all features the one that fits a union of its best values best."""
    order_FV = np.argsort(-f1_FV, axis=1, kind="stable")[:, :MOST_VALUES]
    counts_V = np.bincount(half.labels_N, minlength=values)
    hit_FV = np.asarray((half.fires.T @ half.is_value(values)).todense())
    fired_F = np.asarray(half.fires.sum(0)).ravel()
    hits = np.take_along_axis(hit_FV, order_FV, 1).cumsum(1)
    positives = counts_V[order_FV].cumsum(1)
    f1 = 2 * hits / np.maximum(fired_F[:, None] + positives, 1)
    f1[positives > len(half.labels_N) / 2] = -1.0
    f1[:, 0] = np.maximum(f1[:, 0], 0)  # one value is always allowed
    feature, length = np.unravel_index(int(f1.argmax()), f1.shape)
    return int(feature), tuple(sorted(int(v) for v in order_FV[feature, : length + 1]))


def _on(fires_NF: Any, features: npt.NDArray[Any]) -> Bools:
    on: Bools = fires_NF[:, features].toarray().astype(bool)
    return on


def _any(fires_NF: Any, features: tuple[int, ...]) -> Bools:
    if not features:
        return np.zeros(fires_NF.shape[0], bool)
    on: Bools = _on(fires_NF, np.array(features)).max(1)
    return on


def _f1_of(guess_NV: Bools, truth_NV: Bools) -> Floats:
    """``[V]``; NaN for a value that does not occur."""
    hits_V, there_V = (guess_NV & truth_NV).sum(0), truth_NV.sum(0)
    f1_V = 2 * hits_V / np.maximum(guess_NV.sum(0) + there_V, 1)
    return np.where(there_V > 0, f1_V, np.nan)


def _mean_present(f1_V: Floats) -> float:
    return float(np.nanmean(f1_V)) if np.isfinite(f1_V).any() else 0.0


def labels_of(codes_N: Tensor, first: int) -> Ints:
    """Values of one attribute, from 0, of codes that begin at ``first``."""
    labels: Ints = (codes_N - first).numpy()
    return labels
