"""What several graphs have in common: features and edges that stand in more of them than chance
lets them, and how alike the graphs are beside others.  No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Literal

import numpy as np

from monosemy.graphs.aligned import (
    GOAL,
    AlignedGraph,
    Aligner,
    GraphToAlign,
    Mask,
)
from monosemy.graphs.chance import (
    FeatureChances,
    at_least,
    edge_chances,
    number_of_times,
    places_among,
)
from monosemy.graphs.graph import Floats, Ints
from monosemy.graphs.overlap import overlap
from monosemy.interp.statistics.multiple import FDR, adjusted
from monosemy.interp.statistics.student import student_critical
from monosemy.specs.rest.circuits import WithInterval
from monosemy.specs.rest.common_graphs import (
    Alignment,
    Chance,
    Common,
    CommonCount,
    CommonEdge,
    CommonUnit,
)

LISTED = 100
"""Features that are listed unless told otherwise."""
_TOKENS = 30
_EDGES = 400
_Z95 = NormalDist().inv_cdf(0.975)


def common(
    graphs: Iterable[GraphToAlign],
    against: Iterable[GraphToAlign] = (),
    align: Alignment = "sum",
    least: int = 2,
    listed: int = LISTED,
    labels: Mapping[tuple[int, int], str] | None = None,
) -> Common:
    """Of graphs made with one host model and the same coders, which the caller sees to.

    ``against``: graphs of other prompts; ``least``: what stands in fewer graphs is left out;
    ``listed``: so many features are listed at most; ``labels``: by (coder, latent).
    ``ValueError`` for fewer than two graphs, or a ``least`` that is not from 2 to their number.
    """
    aligner = Aligner(align)
    # One after the other: what fires on a long prompt takes many times what is kept of it.
    own, others = ([aligner.of(each) for each in part] for part in (graphs, against))
    if len(own) < 2:
        raise ValueError("it takes two graphs to have something in common")
    if not 2 <= least <= len(own):
        raise ValueError(f"least is from 2 to the number of graphs, {len(own)}")
    work = _Common(aligner, own, others, least)
    all_of_them = [*own, *others]
    both = None if work.chances is None else work.chances.sums[2]
    units = work.units(listed)
    called = {} if labels is None else dict(labels)
    return Common(
        n=len(own),
        n_against=len(others),
        align=align,
        least=least,
        features=int(work.is_listed.sum()),
        stable=work.stable,
        counts=work.counts(),
        overlap=overlap(all_of_them, len(work.against), both),
        units=[work.unit(place, called) for place in units.tolist()],
        edges=work.edges(units),
        has_null=work.chances is not None,
    )


@dataclass
class _Common:
    """``K`` units of all graphs together, ``N`` graphs, ``V`` features that fire on any."""

    aligner: Aligner
    graphs: list[AlignedGraph]
    against: list[AlignedGraph]
    least: int

    def __post_init__(self) -> None:
        self.key_K = np.unique(np.concatenate([each.key_U for each in self.graphs]))
        self.share_NK, self.there_NK, effect_NK = _table(self.graphs, self.key_K)
        self.against_NK, self.in_against_NK, _ = _table(self.against, self.key_K)
        self.count_K = self.there_NK.sum(axis=0)
        self.positive_K = (self.there_NK & (effect_NK > 0)).sum(axis=0)
        self.level_K = np.full(len(self.key_K), -2)
        for each in self.graphs:
            self.level_K[np.searchsorted(self.key_K, each.key_U)] = each.level_U
        self.is_listed = (self.key_K >= 0) & (self.count_K >= self.least)

    @cached_property
    def chances(self) -> FeatureChances | None:
        if any(each.fires_A is None for each in self.graphs):
            return None
        return FeatureChances(self.graphs)

    @cached_property
    def tests(self) -> tuple[Floats, Floats, Floats] | None:
        """(expected, p, q) by unit; of a feature alone they mean something.

        Features that fire and stand in no graph are tested too, with a p-value of 1.
        """
        if self.chances is None:
            return None
        feature = np.flatnonzero(self.key_K >= 0)
        expected_K, p_K, q_K = (np.full(len(self.key_K), each) for each in (0.0, 1.0, 1.0))
        if len(feature):
            keys = self.key_K[feature]
            expected_K[feature] = self.chances.of(keys).sum(axis=0)
            p_K[feature] = self.chances.p(keys, self.count_K[feature])
            tested = max(len(self.chances.key_V) / len(feature), 1.0)
            q_K[feature] = np.minimum(adjusted(p_K[feature].tolist()) * tested, 1.0)
        return expected_K, p_K, q_K

    @property
    def stable(self) -> int:
        """0 where chance is not known."""
        if self.tests is None:
            return 0
        return int((self.is_listed & (self.tests[2] <= FDR)).sum())

    def counts(self) -> list[CommonCount]:
        features = self.key_K >= 0
        by_chance: dict[int, WithInterval] = {}
        if self.chances is not None:
            mean_M, variance_M, _ = self.chances.sums
            for many, (mean, variance) in enumerate(zip(mean_M, variance_M, strict=True)):
                half = _Z95 * math.sqrt(float(variance))
                by_chance[many] = WithInterval(
                    value=float(mean), low=max(float(mean) - half, 0.0), high=float(mean) + half
                )
        return [
            CommonCount(
                graphs=many,
                features=int((features & (self.count_K >= many)).sum()),
                by_chance=by_chance.get(many),
            )
            for many in range(1, len(self.graphs) + 1)
        ]

    def units(self, listed: int) -> Ints:
        """Places of those that are listed: features, then tokens, then goals."""
        mean_K = self.share_NK.mean(axis=0)
        enough = self.count_K >= self.least
        token = (self.key_K < GOAL) & enough
        parts = [
            _largest(mean_K, self.is_listed, listed),
            _largest(mean_K, token, _TOKENS),
            np.flatnonzero(self.key_K == GOAL),
        ]
        return np.concatenate(parts)

    def unit(self, place: int, labels: Mapping[tuple[int, int], str]) -> CommonUnit:
        key, (layer, is_mlp) = int(self.key_K[place]), divmod(int(self.level_K[place]), 2)
        coder = -1
        latent: int | None = None
        where: str | None = None
        branch: Literal["attention", "mlp"] | None = None
        kind: Literal["feature", "token", "goal"] = "feature"
        if key >= 0:
            coder, latent, where = self.aligner.described(key)
            branch = "mlp" if is_mlp else "attention"
            name = f"{layer}/{latent}" if is_mlp else f"{layer}.attn/{latent}"
            label = labels.get((coder, latent), name)
        elif key == GOAL:
            kind, label = "goal", "what is explained"
        else:
            kind, label = "token", self.aligner.text(key)
        has_against = bool(self.against)
        return CommonUnit(
            kind=kind,
            layer=layer,
            branch=branch,
            coder=coder,
            latent=latent,
            place=where,
            label=label,
            graphs=int(self.count_K[place]),
            share=_mean(self.share_NK[:, place]),
            positive=int(self.positive_K[place]),
            chance=self._chance(place) if key >= 0 else None,
            against_graphs=int(self.in_against_NK[:, place].sum()) if has_against else None,
            difference=_difference(self.share_NK[:, place], self.against_NK[:, place])
            if len(self.against) > 1
            else None,
        )

    def _chance(self, place: int) -> Chance | None:
        if self.tests is None:
            return None
        expected, p, q = (float(column[place]) for column in self.tests)
        return Chance(expected=expected, p=p, q=q)

    def edges(self, units: Ints) -> list[CommonEdge]:
        """Between the units at these places, those in ``least`` graphs or more."""
        key_L, level_L = self.key_K[units], self.level_K[units]
        size = len(units)
        pair_P = np.flatnonzero((level_L[:, None] < level_L[None, :]).ravel())
        source_P, target_P = pair_P // size, pair_P % size
        flow_NP, weight_NP, there_NP = _edge_table(self.graphs, key_L, pair_P)
        count_P = there_NP.sum(axis=0)
        chances_NP = edge_chances(self.graphs, key_L, (source_P, target_P))
        p_P = at_least(number_of_times(chances_NP), count_P)
        q_P = adjusted(p_P.tolist()) if len(p_P) else p_P
        in_against = None
        if self.against:
            in_against = _edge_table(self.against, key_L, pair_P)[2].sum(axis=0)
        chosen = _largest(flow_NP.mean(axis=0), count_P >= self.least, _EDGES)
        return [
            CommonEdge(
                source=int(source_P[at]),
                target=int(target_P[at]),
                graphs=int(count_P[at]),
                flow=_mean(flow_NP[:, at]),
                weight=float(weight_NP[:, at][there_NP[:, at]].mean()),
                positive=int((weight_NP[:, at] > 0).sum()),
                chance=Chance(
                    expected=float(chances_NP[:, at].sum()), p=float(p_P[at]), q=float(q_P[at])
                ),
                against_graphs=None if in_against is None else int(in_against[at]),
            )
            for at in chosen.tolist()
        ]


def _table(graphs: Sequence[AlignedGraph], key_K: Ints) -> tuple[Floats, Mask, Floats]:
    """(shares, whether they are there, effects), ``[N, K]`` each."""
    share, there, effect = (np.zeros((len(graphs), len(key_K))) for _ in range(3))
    for row, each in enumerate(graphs):
        at, own = places_among(key_K, each.key_U)
        there[row] = own
        share[row, own], effect[row, own] = each.share_U[at[own]], each.effect_U[at[own]]
    return share, there.astype(bool), effect


def _edge_table(
    graphs: Sequence[AlignedGraph], key_L: Ints, pair_P: Ints
) -> tuple[Floats, Floats, Mask]:
    """(flows, weights, whether they are there), ``[N, P]`` each; ``pair_P``: source times the
    number of keys plus target, ascending."""
    size = len(key_L)
    flow, weight, there = (np.zeros((len(graphs), len(pair_P))) for _ in range(3))
    order = np.argsort(key_L)
    for row, each in enumerate(graphs):
        at, own = places_among(each.key_U, key_L[order])
        unit_U = np.where(own, order[at], -1)
        source, target = unit_U[each.source_E], unit_U[each.target_E]
        kept = np.flatnonzero((source >= 0) & (target >= 0))
        place, known = places_among(source[kept] * size + target[kept], pair_P)
        kept, place = kept[known], place[known]
        flow[row, place], weight[row, place] = each.flow_E[kept], each.weight_E[kept]
        there[row, place] = True
    return flow, weight, there.astype(bool)


def _largest(values: Floats, mask: Mask, most: int) -> Ints:
    at = np.flatnonzero(mask)
    return np.asarray(at[np.argsort(-values[at], kind="stable")][:most])


def _mean(values: Floats) -> WithInterval:
    """Student's 95 % interval; shares are from 0 to 1."""
    half = student_critical(_Z95, len(values) - 1) * _error(values)
    mean = float(values.mean())
    return WithInterval(
        value=mean, low=max(mean - half, 0.0), high=max(mean, min(mean + half, 1.0))
    )


def _error(values: Floats) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def _difference(own: Floats, others: Floats) -> WithInterval:
    """Welch's interval of a difference of means (B. Welch, Biometrika 34 (1947) 28)."""
    parts = [_error(each) ** 2 for each in (own, others)]
    value, variance = float(own.mean() - others.mean()), sum(parts)
    half = 0.0
    if variance > 0:
        squares = parts[0] ** 2 / (len(own) - 1) + parts[1] ** 2 / (len(others) - 1)
        half = student_critical(_Z95, max(variance**2 / squares, 1.0)) * math.sqrt(variance)
    return WithInterval(value=value, low=value - half, high=value + half)
