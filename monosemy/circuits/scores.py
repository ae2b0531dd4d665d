"""Scores of heads and of pairs of heads by their codes, beside what shuffled labels give.

A head's score is the number of codes that it has in positive prompts and in no negative one; that
of a pair counts pairs of codes.  Both grow with how many codes a head has at all, whatever the
task: what is to be looked at is z, against the same scores under shuffled labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monosemy.interp.statistics.multiple import adjusted
from monosemy.progress import SILENT, Reporter

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

_SHRINK = 0.5
"""Added to the deviation, which is 0 for heads of one code."""
_CELLS_AT_ONCE = 2**21
"""Pairs of heads times prompts that are worked on at a time."""
_BIN = 100
"""Bins of the pooled null for each unit of z."""
_HIGHEST, _LOWEST = 500, -50
"""Beyond these, values of z count as these."""


def shuffled_labels(positive: Booleans, permutations: int, seed: int) -> Booleans:
    """``[1 + permutations, N]``: the labels themselves, then shuffled ones."""
    rng = np.random.default_rng(seed % 2**63)
    shuffled = [rng.permutation(positive) for _ in range(permutations)]
    return np.array([positive, *shuffled])


@dataclass(frozen=True)
class Scored:
    """Scores with their null, one row each; q is added once all are known."""

    score: Floats
    mean: Floats
    """Under shuffled labels."""
    sd: Floats
    z: Floats
    """(score - mean) / (sd + .5)."""
    p: Floats
    """Share of the shuffled labels, with the true ones, that give such a score or a higher."""

    @staticmethod
    def joined(parts: Sequence[Scored]) -> Scored:
        return Scored(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("score", "mean", "sd", "z", "p")
            )
        )


class PooledNull:
    """How often shuffled labels give a z or a higher one anywhere: the p-value whose
    Benjamini-Hochberg q is the expected share of false discoveries (Storey and Tibshirani 2003).
    The own p-value of a head ends at 1 / (permutations + 1), too coarse to correct for thousands.

    Memory is that of a histogram; a bin counts as its highest value.
    """

    def __init__(self) -> None:
        self.counts = np.zeros((_HIGHEST - _LOWEST) * _BIN + 1, np.int64)

    def add(self, z: Floats) -> None:
        self.counts += np.bincount(self._bins(z).ravel(), minlength=len(self.counts))

    def p(self, z: Floats) -> Floats:
        at_least = self.counts[::-1].cumsum()[::-1]
        found: Floats = (1 + at_least[self._bins(z)]) / (1 + at_least[0])
        return found

    @staticmethod
    def _bins(z: Floats) -> Ints:
        clipped = np.clip(z, _LOWEST, _HIGHEST)
        return np.floor((clipped - _LOWEST) * _BIN + 1e-6).astype(np.int64)


def against_null(scores: Floats, null: PooledNull) -> Scored:
    """Of scores ``[1 + permutations, n]``, whose first row is that of the true labels; what the
    others give is added to ``null``."""
    shuffled = scores[1:]
    mean, sd = shuffled.mean(0), shuffled.std(0)
    null.add((shuffled - mean) / (sd + _SHRINK))
    p = (1 + (shuffled >= scores[0] - 1e-9).sum(0)) / (1 + len(shuffled))
    return Scored(scores[0], mean, sd, (scores[0] - mean) / (sd + _SHRINK), p)


def node_scores(codes: Ints, labels: Booleans, kinds: int) -> Ints:
    """``[labels, heads]``: codes (below ``kinds``) that a head has in positive prompts alone.
    ``codes`` [N, heads], ``labels`` [labels, N]."""
    heads = codes.shape[1]
    keys = codes + kinds * np.arange(heads)
    total = np.bincount(keys.ravel(), minlength=heads * kinds)
    scores = np.empty((len(labels), heads), np.int64)
    for row, positive in enumerate(labels):
        count = np.bincount(keys[positive].ravel(), minlength=heads * kinds)
        alone = (count > 0) & (count == total)
        scores[row] = alone.reshape(heads, kinds).sum(1)
    return scores


def edge_scores(codes: Ints, labels: Booleans, kinds: int, pairs: Ints) -> Ints:
    """``[labels, pairs]``: pairs of codes that two heads have in positive prompts alone.
    ``pairs`` [pairs, 2] holds columns of ``codes``; give blocks of them."""
    first, second = codes[:, pairs[:, 0]], codes[:, pairs[:, 1]]
    keys = (np.arange(len(pairs)) * kinds + first) * kinds + second
    cells, place = np.unique(keys, return_inverse=True)
    place = place.reshape(keys.shape)
    total = np.bincount(place.ravel(), minlength=len(cells))
    starts = np.searchsorted(cells, np.arange(len(pairs)) * kinds * kinds)
    scores = np.empty((len(labels), len(pairs)), np.int64)
    for row, positive in enumerate(labels):
        count = np.bincount(place[positive].ravel(), minlength=len(cells))
        scores[row] = np.add.reduceat(count == total, starts, dtype=np.int64)
    return scores


def causal_pairs(layers: Sequence[int], among: Sequence[int]) -> Ints:
    """``[pairs, 2]``: of the heads ``among``, each with all of later layers.  ``layers`` has the
    layer of every head."""
    chosen = np.array(sorted(among), np.int64)
    layer = np.array(layers, np.int64)[chosen]
    first, second = np.nonzero(layer[:, None] < layer[None, :])
    return np.stack([chosen[first], chosen[second]], 1)


def score_nodes(tables: Sequence[Ints], labels: Booleans, kinds: int) -> tuple[Scored, Floats]:
    """(scores as means over the codes of all seeds, their q)."""
    null = PooledNull()
    mean = np.mean([node_scores(codes, labels, kinds) for codes in tables], axis=0)
    scored = against_null(mean, null)
    return scored, adjusted(null.p(scored.z).tolist())


def score_edges(
    tables: Sequence[Ints],
    labels: Booleans,
    kinds: int,
    pairs: Ints,
    reporter: Reporter = SILENT,
) -> tuple[Scored, Floats]:
    """(scores of ``pairs`` as means over the codes of all seeds, their q); in blocks of bounded
    memory.  Stage ``edges`` in pairs."""
    null, parts = PooledNull(), []
    step = max(1, _CELLS_AT_ONCE // labels.shape[1])
    with reporter.stage("edges", len(pairs), "pairs") as stage:
        for first in range(0, len(pairs), step):
            block = pairs[first : first + step]
            total = np.zeros((len(labels), len(block)))
            for codes in tables:
                total += edge_scores(codes, labels, kinds, block)
                reporter.check()
            parts.append(against_null(total / len(tables), null))
            stage.advance(len(block))
    scored = Scored.joined(parts)
    return scored, adjusted(null.p(scored.z).tolist())
