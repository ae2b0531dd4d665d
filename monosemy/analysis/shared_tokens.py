"""How often features of two SAEs fire on the same tokens of one text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.index.neighbours import Coactivation

TOKENS = 1_000_000
"""Tokens of the text that are read, from its beginning."""


class Postings(Protocol):
    """An index, as far as it is needed here: ``IndexReader``."""

    n_features: int
    n_tokens: int

    def postings(self, feature: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]: ...


def token_table(index: Postings, tokens: int) -> Coactivation:
    """Which features fire on each of the first ``tokens`` tokens, from postings by feature."""
    parts = []
    for feature in range(index.n_features):
        positions = _early(index, feature, tokens)
        parts.append(np.stack([positions, np.full(len(positions), feature, np.int64)]))
    position, feature_of = np.concatenate(parts, axis=1)
    order = np.argsort(position, kind="stable")
    position, feature_of = position[order], feature_of[order]
    places, starts, counts = np.unique(position, return_index=True, return_counts=True)
    width = int(counts.max(initial=0))
    column = np.arange(len(position)) - np.repeat(starts, counts)
    row = np.repeat(np.arange(len(places)), counts)
    indices = np.zeros((len(places), width), np.int64)
    values = np.zeros((len(places), width), np.float32)
    indices[row, column], values[row, column] = feature_of, 1.0
    table = Coactivation(index.n_features, 1)
    table.add(places, indices, values)
    table.finish()
    return table


def jaccard_blocks(
    a: Postings, b: Coactivation, tokens: int, shift: int = 0, block: int = 256
) -> Iterator[tuple[int, Tensor]]:
    """``(first feature, Jaccard [rows, F of b])``: tokens with both / tokens with either.

    ``shift`` moves the first side's tokens along the text, round its end: what is left is chance.
    """
    for first in range(0, a.n_features, block):
        rows = []
        for feature in range(first, min(first + block, a.n_features)):
            positions = _early(a, feature, tokens)
            if shift:
                positions = np.sort((positions + shift) % tokens)
            both = b.counts(positions)
            rows.append(both / np.maximum(len(positions) + b.firings - both, 1))
        yield first, torch.from_numpy(np.stack(rows)).float()


def _early(index: Postings, feature: int, tokens: int) -> npt.NDArray[np.int64]:
    positions = np.asarray(index.postings(feature)[0], np.int64)
    return positions[: np.searchsorted(positions, tokens)]
