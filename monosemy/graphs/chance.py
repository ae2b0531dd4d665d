"""In how many of several graphs a part would stand by chance.  No torch.

Features: of each SAE a graph has k of the features that fire on its prompt.  Drawn one after the
other without replacement, in proportion to their activations a, they are the first k of exponential
waiting times with rates a; at the time c at which k have come on average, a feature has come with
probability ``1 - exp(-c a)`` (P. Efraimidis and P. Spirakis, Information Processing Letters 97
(2006) 181, for the draw by waiting times).  Over graphs the number of times is then
Poisson-binomial.  k is held for each SAE, as activations of two SAEs have no scale in common.

Edges: each part keeps how many edges leave and enter it.  An edge out of ``s`` goes to a part above
it in proportion to the edges that enter that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from monosemy.graphs.aligned import AlignedGraph, Mask, coder_of
from monosemy.graphs.graph import Floats, Ints

_STEPS = 200
_PIECE = 1 << 16
"""Features that are gone through at a time."""


def inclusion(activation_A: Floats, count: int) -> Floats:
    """``[A]``: probability of each that it is among ``count`` drawn in proportion to activation.

    They add up to ``count``; all are 1 where there are no more than that.
    """
    rates = np.maximum(activation_A, 0.0)
    positive = rates > 0
    if count >= positive.sum():
        return np.where(positive, 1.0, float(count > positive.sum()))
    low, high = 0.0, 1.0 / float(rates[positive].min())
    while (1 - np.exp(-high * rates)).sum() < count:
        high *= 2
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if (1 - np.exp(-middle * rates)).sum() < count:
            low = middle
        else:
            high = middle
        if high - low <= 1e-12 * high:
            break
    return np.asarray(1 - np.exp(-high * rates))


def number_of_times(chances_NP: Floats) -> Floats:
    """``[N + 1, P]``: probability of each number of times (0 to N) that a part stands in N graphs,
    by its probabilities in them (Poisson-binomial)."""
    graphs, parts = chances_NP.shape
    times = np.zeros((graphs + 1, parts))
    times[0] = 1.0
    for seen, p in enumerate(chances_NP):
        times[1 : seen + 2] = times[1 : seen + 2] * (1 - p) + times[: seen + 1] * p
        times[0] *= 1 - p
    return times


def at_least(times_MP: Floats, count_P: Ints) -> Floats:
    """``[P]``: probability of that many times or more; ``times_MP`` of ``number_of_times``."""
    tail_MP = np.cumsum(times_MP[::-1], axis=0)[::-1]
    return np.asarray(np.clip(tail_MP[count_P, np.arange(len(count_P))], 0.0, 1.0))


class FeatureChances:
    """Of N graphs: with which probability each has which of the V features that fire on any of
    their prompts.  V may be millions, so that they are gone through piece by piece."""

    def __init__(self, graphs: Sequence[AlignedGraph]) -> None:
        """``ValueError`` where it is not known what fires."""
        self._fires: list[tuple[Ints, Floats]] = []
        for each in graphs:
            if each.fires_A is None or each.activation_A is None:
                raise ValueError("a graph does not know what fires on its prompt")
            self._fires.append((each.fires_A, _inclusion_of_each(each, each.activation_A)))
        self.key_V = np.unique(np.concatenate([keys for keys, _ in self._fires]))

    def of(self, keys: Ints) -> Floats:
        """``[N, K]``; 0 of what does not fire."""
        chances_NK = np.zeros((len(self._fires), len(keys)))
        for row, (own, p_A) in zip(chances_NK, self._fires, strict=True):
            at, there = places_among(keys, own)
            row[there] = p_A[at[there]]
        return chances_NK

    def p(self, keys: Ints, count_K: Ints) -> Floats:
        """``[K]``: probability that a feature stands in so many graphs or more."""
        parts = [
            at_least(number_of_times(self.of(keys[at : at + _PIECE])), count_K[at : at + _PIECE])
            for at in range(0, len(keys), _PIECE)
        ]
        return np.concatenate([np.zeros(0), *parts])

    @cached_property
    def sums(self) -> tuple[Floats, Floats, Floats]:
        """(by number of graphs, 0 to N: expected number of features in so many or more, its
        variance if they are independent; ``[N, N]``: expected number that two graphs have both)."""
        graphs = len(self._fires)
        mean_M, variance_M = np.zeros(graphs + 1), np.zeros(graphs + 1)
        both_NN = np.zeros((graphs, graphs))
        for at in range(0, len(self.key_V), _PIECE):
            chances_NV = self.of(self.key_V[at : at + _PIECE])
            times_MV = number_of_times(chances_NV)
            tail_MV = np.clip(np.cumsum(times_MV[::-1], axis=0)[::-1], 0.0, 1.0)
            mean_M += tail_MV.sum(axis=1)
            variance_M += (tail_MV * (1 - tail_MV)).sum(axis=1)
            both_NN += chances_NV @ chances_NV.T
        return mean_M, variance_M, both_NN


def _inclusion_of_each(graph: AlignedGraph, activation_A: Floats) -> Floats:
    """``[A]``: as ``inclusion``, as many of each SAE as the graph has."""
    assert graph.fires_A is not None
    p_A = np.zeros(len(activation_A))
    of_A, of_U = coder_of(graph.fires_A), coder_of(graph.key_U[graph.is_feature_U])
    for coder in np.unique(of_U):
        own = of_A == coder
        p_A[own] = inclusion(activation_A[own], int((of_U == coder).sum()))
    return p_A


def edge_chances(graphs: Sequence[AlignedGraph], keys: Ints, pairs: tuple[Ints, Ints]) -> Floats:
    """``[N, P]``: probability of each graph to have an edge between the units of each pair of
    places among ``keys``; 0 where it lacks one of them."""
    source_P, target_P = pairs
    chances_NP = np.zeros((len(graphs), len(source_P)))
    for row, each in zip(chances_NP, graphs, strict=True):
        units = len(each.key_U)
        leave_U = np.bincount(each.source_E, minlength=units).astype(float)
        enter_U = np.bincount(each.target_E, minlength=units).astype(float)
        above_U = _above(each.level_U, enter_U)
        at_K, there_K = places_among(keys, each.key_U)
        s, t = at_K[source_P], at_K[target_P]
        both = there_K[source_P] & there_K[target_P] & (each.level_U[t] > each.level_U[s])
        expected = leave_U[s] * enter_U[t] / np.maximum(above_U[s], 1.0)
        row[both] = 1 - np.exp(-expected[both])
    return chances_NP


def places_among(keys: Ints, own_U: Ints) -> tuple[Ints, Mask]:
    """(place of each key among ``own_U``, whether it is there)."""
    at = np.minimum(np.searchsorted(own_U, keys), max(len(own_U) - 1, 0))
    there = own_U[at] == keys if len(own_U) else np.zeros(len(keys), bool)
    return at, np.asarray(there)


def _above(level_U: Ints, enter_U: Floats) -> Floats:
    """``[U]``: edges that enter the units above each."""
    order = np.argsort(level_U, kind="stable")
    summed = np.concatenate([[0.0], np.cumsum(enter_U[order])])
    up_to = np.searchsorted(level_U[order], level_U, side="right")
    return np.asarray(summed[-1] - summed[up_to])
