"""The area under the ROC curve of graded values, and its interval.

Sources: E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, Biometrics 44 (1988) 837 for the
variance; X. Sun and W. Xu, IEEE Signal Processing Letters 21 (2014) 1389 for getting it from
midranks; N. A. Obuchowski, Biometrics 53 (1997) 567 for clusters; R. G. Newcombe, Statistics in
Medicine 25 (2006) 559, method 5, for the shape of the interval.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from monosemy.interp.statistics.rates import Z95
from monosemy.interp.statistics.student import student_critical

PRIOR_DF = 10.0
"""Degrees of freedom that the variance of Newcombe's model is worth beside the estimated one."""

Values = Sequence[float] | NDArray[np.floating]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Area:
    """An AUROC with its interval.  ``value`` is None where a class is empty."""

    value: float | None
    low: float
    high: float
    n_positive: int
    n_negative: int

    def as_dict(self) -> dict[str, float | int | None]:
        return asdict(self)


def midranks(values: Floats, axis: int | None = None) -> Floats:
    """Ranks from 1, along ``axis`` if given; equal values share the mean of theirs."""
    from scipy.stats import rankdata  # takes a second to import: the API starts without

    return np.asarray(rankdata(values, axis=axis), dtype=np.float64)


def placements(positives_P: Values, negatives_N: Values) -> tuple[Floats, Floats]:
    """For each positive the share of negatives below it, for each negative that of positives above.

    Ties count 1/2; the mean of either is the AUROC.  O(n log n).  Values may be infinite.  Raises
    ``ValueError`` for an empty class and for NaN.
    """
    first = np.asarray(positives_P, dtype=np.float64)
    second = np.asarray(negatives_N, dtype=np.float64)
    if not len(first) or not len(second):
        raise ValueError("the area under the curve needs examples of both classes")
    both = np.concatenate([first, second])
    if np.isnan(both).any():
        raise ValueError("a value is not a number")
    ranks = midranks(both)
    above_P = (ranks[: len(first)] - midranks(first)) / len(second)
    below_N = 1 - (ranks[len(first) :] - midranks(second)) / len(first)
    return above_P, below_N


def auroc(positives_P: Values, negatives_N: Values) -> float:
    """The chance that a positive has the higher value, ties counted 1/2; errors: ``placements``."""
    return float(placements(positives_P, negatives_N)[0].mean())


def area_under_roc(
    positives_P: Values,
    negatives_N: Values,
    positive_clusters: Sequence[Hashable] | None = None,
    negative_clusters: Sequence[Hashable] | None = None,
    z: float = Z95,
) -> Area:
    """The AUROC with an interval that allows for clusters (documents), by inverting a score test.

    The interval holds every area t with ``|A - t| <= c * sqrt(f * V(t))``: V is Newcombe's variance
    (Hanley and McNeil's, made symmetric), which depends on t, so that the interval stays within
    [0, 1] and is not empty at A = 0 or 1, just as Wilson's.  ``f`` fits V to the data: DeLong's
    variance over V(A), drawn towards 1 as by ``PRIOR_DF`` degrees of freedom, times the design
    effect, Obuchowski's variance over DeLong's.  ``c`` is Student's critical value at
    Satterthwaite's degrees of freedom plus ``PRIOR_DF``.  Where the data show no variance (A of 0
    or 1, all tied, a class in one cluster) f is that of clusters that agree within.

    Wald intervals with DeLong's variance, plain or logit, cover 73 and 80 % at 10 + 10 examples and
    A = 0.95; this one 93 to 98 % for normal values of equal or twofold spread, with classes of 10
    and more of like size, clustered or not (``tests/interp/test_interp_ranks.py``).  Where the
    smaller class has the wider spread (10 positives, 50 negatives, twofold) it falls to 90 %.

    An empty class gives value None and (0, 1).  Raises ``ValueError`` for NaN, or unless both or
    neither of the clusters are given, one per example.
    """
    m, n = len(positives_P), len(negatives_N)
    if (positive_clusters is None) != (negative_clusters is None):
        raise ValueError("clusters of both classes or of none are needed")
    if not m or not n:
        return Area(None, 0.0, 1.0, m, n)
    first_P, second_N = placements(positives_P, negatives_N)
    area = float(first_P.mean())
    # Names of their own, so that a cluster of one class is none of the other's.
    of_positives = [(0, i) for i in range(m)] if positive_clusters is None else positive_clusters
    of_negatives = [(1, i) for i in range(n)] if negative_clusters is None else negative_clusters
    parts = _clustered(first_P, second_N, of_positives, of_negatives)
    factor, df = _fit(area, _delong(first_P, second_N), parts, m, n)
    low, high = _invert(area, student_critical(z, df + PRIOR_DF) ** 2 * factor, m, n)
    return Area(area, low, high, m, n)


def _delong(first_P: Floats, second_N: Floats) -> float:
    """DeLong's variance of the AUROC of independent examples; NaN for a class of one."""
    if len(first_P) < 2 or len(second_N) < 2:
        return math.nan
    return float(first_P.var(ddof=1) / len(first_P) + second_N.var(ddof=1) / len(second_N))


@dataclass(frozen=True)
class _Clustered:
    """Parts of Obuchowski's variance, which is DeLong's where no two examples share a cluster."""

    positive: float
    negative: float
    shared: float
    """Twice the covariance, from clusters that hold both classes."""
    n_positive: int
    """Clusters with positives."""
    n_negative: int
    worth_positive: float
    """Kish's number of examples if those of a cluster agree, (sum m_k)^2 / sum m_k^2."""
    worth_negative: float


def _clustered(
    first_P: Floats,
    second_N: Floats,
    positive_clusters: Sequence[Hashable],
    negative_clusters: Sequence[Hashable],
) -> _Clustered:
    m, n = len(first_P), len(second_N)
    if len(positive_clusters) != m or len(negative_clusters) != n:
        raise ValueError("one cluster per example is needed")
    area = float(first_P.mean())
    numbers: dict[Hashable, int] = {}
    of_P = np.array([numbers.setdefault(c, len(numbers)) for c in positive_clusters])
    of_N = np.array([numbers.setdefault(c, len(numbers)) for c in negative_clusters])
    k = len(numbers)
    sizes_P, sizes_N = np.bincount(of_P, minlength=k), np.bincount(of_N, minlength=k)
    sums_P = np.bincount(of_P, weights=first_P - area, minlength=k)
    sums_N = np.bincount(of_N, weights=second_N - area, minlength=k)
    k_P, k_N = int((sizes_P > 0).sum()), int((sizes_N > 0).sum())

    def scaled(count: int, total: float) -> float:
        return count / (count - 1) * total if count > 1 else math.nan

    return _Clustered(
        positive=scaled(k_P, float(sums_P @ sums_P)) / m**2,
        negative=scaled(k_N, float(sums_N @ sums_N)) / n**2,
        shared=2 * scaled(k, float(sums_P @ sums_N)) / (m * n),
        n_positive=k_P,
        n_negative=k_N,
        worth_positive=m**2 / float(sizes_P @ sizes_P),
        worth_negative=n**2 / float(sizes_N @ sizes_N),
    )


def _fit(area: float, independent: float, parts: _Clustered, m: int, n: int) -> tuple[float, float]:
    """(f, degrees of freedom) of ``area_under_roc``."""
    model = _model_variance(area, m, n)
    known = parts.n_positive > 1 and parts.n_negative > 1 and independent > 0 and model > 0
    if not known:
        inside = min(max(area, 0.01), 0.99)
        agreeing = _model_variance(inside, parts.worth_positive, parts.worth_negative)
        factor = agreeing / _model_variance(inside, m, n)
        return factor, float(parts.n_positive + parts.n_negative - 2)
    split = parts.positive**2 / (parts.n_positive - 1) + parts.negative**2 / (parts.n_negative - 1)
    df = (parts.positive + parts.negative) ** 2 / split if split > 0 else 0.0
    # Documents of both classes may well make the area more certain; a tenth is for chance.
    design = max((parts.positive + parts.negative + parts.shared) / independent, 0.1)
    weight = df / (df + PRIOR_DF)
    return design * (weight * independent / model + 1 - weight), df


def _model_variance(area: float, m: float, n: float) -> float:
    """Newcombe's variance of an AUROC (2006, method 5); ``m``, ``n`` may be effective numbers."""
    half = (m + n) / 2 - 1
    return area * (1 - area) * (1 + half * ((1 - area) / (2 - area) + area / (1 + area))) / (m * n)


def _invert(area: float, square: float, m: int, n: int) -> tuple[float, float]:
    """The ends of {t: (area - t)^2 <= square * V(t)}, by bisection on either side of ``area``."""

    def end(inside: float, outside: float) -> float:
        if inside == outside:
            return inside
        for _ in range(50):
            middle = (inside + outside) / 2
            if (area - middle) ** 2 <= square * _model_variance(middle, m, n):
                inside = middle
            else:
                outside = middle
        return inside

    return end(area, 0.0), end(area, 1.0)
