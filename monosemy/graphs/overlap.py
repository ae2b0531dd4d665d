"""How alike the features of graphs are, weighted by influence, beside other graphs and chance.  No
torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import NormalDist

import numpy as np

from monosemy.graphs.aligned import AlignedGraph
from monosemy.graphs.graph import Floats
from monosemy.interp.statistics.student import student_critical
from monosemy.specs.rest.circuits import WithInterval
from monosemy.specs.rest.common_graphs import Overlap

_Z95 = NormalDist().inv_cdf(0.975)
_DIVISIONS = 1000


def overlaps(graphs: Sequence[AlignedGraph]) -> Floats:
    """``[N, N]``: sum of the smaller shares of the features of two graphs over the sum of the
    larger; 1 for the same features with the same shares, 0 without one in common."""
    features = [(each.key_U[each.is_feature_U], each.share_U[each.is_feature_U]) for each in graphs]
    both = np.eye(len(graphs))
    for a, b in combinations(range(len(graphs)), 2):
        _, at_a, at_b = np.intersect1d(features[a][0], features[b][0], return_indices=True)
        smaller = float(np.minimum(features[a][1][at_a], features[b][1][at_b]).sum())
        both[a, b] = both[b, a] = _ratio(smaller, features[a][1].sum() + features[b][1].sum())
    return both


def overlap(graphs: Sequence[AlignedGraph], against: int, both_NN: Floats | None) -> Overlap:
    """Of the first graphs, the last ``against`` of them being those that they are held against.

    ``both_NN``: how many features two of the first graphs would both have by chance
    (``FeatureChances.sums``); None: not known.
    """
    count = len(graphs) - against
    both = overlaps(graphs)
    own = both[:count, :count]
    p, divisions = _divided(both, count) if against else (None, None)
    return Overlap(
        within=_within(own),
        interval=_jackknife(own),
        by_chance=None if both_NN is None else _by_chance(graphs[:count], both_NN),
        against=float(both[:count, count:].mean()) if against else None,
        p=p,
        divisions=divisions,
    )


def _ratio(smaller: float, sum_of_both: float) -> float:
    """Smaller shares over larger ones, which are what both have less the smaller."""
    larger = sum_of_both - smaller
    return smaller / larger if larger > 0 else 0.0


def _within(both: Floats) -> float:
    return float(both[np.triu_indices(len(both), 1)].mean())


def _jackknife(both: Floats) -> WithInterval | None:
    """Pairs share graphs: so graphs are left out, not pairs."""
    count = len(both)
    if count < 3:
        return None
    left = np.array(
        [_within(np.delete(np.delete(both, each, 0), each, 1)) for each in range(count)]
    )
    spread = math.sqrt((count - 1) / count * float(((left - left.mean()) ** 2).sum()))
    half, value = student_critical(_Z95, count - 1) * spread, _within(both)
    return WithInterval(value=value, low=max(value - half, 0.0), high=min(value + half, 1.0))


def _by_chance(graphs: Sequence[AlignedGraph], both_NN: Floats) -> float:
    """Of expected sums: features by their probabilities, shares in random order."""
    shares = [np.sort(each.share_U[each.is_feature_U]) for each in graphs]
    ratios = []
    for a, b in combinations(range(len(graphs)), 2):
        smaller = float(both_NN[a, b]) * _mean_smaller(shares[a], shares[b])
        ratios.append(_ratio(smaller, float(shares[a].sum() + shares[b].sum())))
    return float(np.mean(ratios))


def _mean_smaller(a: Floats, b: Floats) -> float:
    """Mean of the smaller one over all pairs of ascending values."""
    if not len(a) or not len(b):
        return 0.0
    below = np.concatenate([[0.0], np.cumsum(b)])
    at = np.searchsorted(b, a, side="right")
    return float((below[at] + a * (len(b) - at)).mean() / len(b))


def _divided(both: Floats, count: int) -> tuple[float, int]:
    """(p, divisions): how often another division has as large a difference of means."""
    total = len(both)
    if math.comb(total, count) <= _DIVISIONS:
        chosen = [np.array(each) for each in combinations(range(total), count)]
    else:
        rng = np.random.default_rng(0)
        chosen = [np.arange(count)]
        chosen += [rng.permutation(total)[:count] for _ in range(_DIVISIONS - 1)]
    differences = []
    for own in chosen:
        others = np.setdiff1d(np.arange(total), own)
        inner, outer = both[np.ix_(own, own)], both[np.ix_(own, others)]
        differences.append(_within(inner) - float(outer.mean()))
    as_large = sum(each >= differences[0] - 1e-12 for each in differences)
    return as_large / len(chosen), len(chosen)
