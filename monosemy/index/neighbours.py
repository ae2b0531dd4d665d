"""Nearest features, by decoder direction and by the tokens they fire on; over all features."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.index.examples import Ints

COACTIVATION_TOKENS = 1_000_000
"""Tokens over which co-activation is counted exactly; a longer text is sampled by whole rows."""

_TABLE = 2**25
"""Positions below it are looked up in a table (128 MiB at most); beyond, by binary search."""

_GATHERED = 65_536
"""Tokens whose codes are read in one batch."""


class DecoderNeighbours:
    """Cosine between decoder rows; memory of one block x F."""

    def __init__(self, W_dec: Tensor, count: int) -> None:
        self.directions = torch.nn.functional.normalize(W_dec.detach().float(), dim=1)
        self.count = min(count, W_dec.shape[0] - 1)

    @torch.no_grad()
    def of(self, first: int, last: int) -> tuple[Ints, npt.NDArray[np.float32]]:
        """(features, cosines), both [last - first, count], nearest first, itself left out."""
        cosines = self.directions[first:last] @ self.directions.T
        own = torch.arange(last - first, device=cosines.device)
        cosines[own, own + first] = -2.0
        values, features = cosines.topk(self.count, dim=1)
        return features.cpu().numpy(), values.cpu().numpy()


class Coactivation:
    """How often features fire on the same token, exactly, over the tokens given to ``add``.

    The measure is the Jaccard index: tokens with both / tokens with either.  (A cosine of the
    firing sets would rank the densest features first everywhere.)

    Keeps the codes token by token (2 bytes per code up to 65,535 features, else 4) and, for each
    feature, counts the codes of the tokens on which it fires: O(postings x k) in all, and never an
    [F, F] matrix.
    """

    def __init__(self, n_features: int, count: int) -> None:
        self.n_features = n_features
        self.count = min(count, n_features - 1)
        # The last value of the type is free to stand for "no code".
        self._dtype = np.uint16 if n_features < 2**16 else np.uint32
        self._codes: list[npt.NDArray[Any]] = []
        self._positions: list[Ints] = []
        self.firings: Ints = np.zeros(n_features, np.int64)

    def add(
        self,
        positions: npt.NDArray[np.integer],
        indices: npt.NDArray[np.integer],
        values: npt.NDArray[np.floating],
    ) -> None:
        """Codes of further tokens: positions [n] ascending, indices and values [n, k]."""
        codes = np.where(values > 0, indices, self.n_features).astype(self._dtype)
        self._codes.append(codes)
        self._positions.append(positions.astype(np.int64))
        self.firings += np.bincount(codes.ravel(), minlength=self.n_features + 1)[:-1]

    def finish(self) -> None:
        """No more tokens: lays the codes out for counting."""
        width = max((c.shape[1] for c in self._codes), default=0)
        total = sum(len(c) for c in self._codes)
        self.codes = np.full((total, width), self.n_features, self._dtype)
        begin = 0
        for codes in self._codes:
            self.codes[begin : begin + len(codes), : codes.shape[1]] = codes
            begin += len(codes)
        self.positions = np.concatenate([np.zeros(0, np.int64), *self._positions])
        self._codes, self._positions = [], []
        self._table: npt.NDArray[np.int32] | None = None
        if total and self.positions[-1] < _TABLE:
            self._table = np.full(int(self.positions[-1]) + 1, -1, np.int32)
            self._table[self.positions] = np.arange(total, dtype=np.int32)

    @property
    def n_tokens(self) -> int:
        return len(self.positions)

    def counts(self, positions: npt.NDArray[np.integer]) -> Ints:
        """Tokens shared with each feature, int64 [F], for the postings' positions of one."""
        if self.n_tokens == 0 or len(positions) == 0:
            return np.zeros(self.n_features, np.int64)
        places = self._places(positions)
        shared = np.zeros(self.n_features + 1, np.int64)
        for begin in range(0, len(places), _GATHERED):
            codes = self.codes[places[begin : begin + _GATHERED]]
            shared += np.bincount(codes.ravel(), minlength=self.n_features + 1)
        return shared[:-1]

    def _places(self, positions: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
        """Rows of ``codes`` of those positions that are in the sample; positions ascend."""
        if self._table is not None:
            places = self._table[positions[: np.searchsorted(positions, len(self._table))]]
            return places[places >= 0]
        rows = np.searchsorted(self.positions, positions)
        rows[rows == self.n_tokens] = 0
        return rows[self.positions[rows] == positions]

    def of(
        self, feature: int, positions: npt.NDArray[np.integer]
    ) -> tuple[Ints, npt.NDArray[np.float64]]:
        """(features, Jaccard) of those that share a token with ``feature``, best first.

        At most ``count``; equal ones by index.
        """
        shared = self.counts(positions)
        own = self.firings[feature]
        shared[feature] = 0
        jaccard = shared / np.maximum(own + self.firings - shared, 1)
        best = np.argpartition(-jaccard, self.count - 1)[: self.count] if self.count else shared[:0]
        # argpartition breaks ties at the border as it likes: take all that reach it, then order.
        least = jaccard[best].min(initial=np.inf)
        best = np.flatnonzero((jaccard >= least) & (shared > 0))
        best = best[np.argsort(-jaccard[best], kind="stable")][: self.count]
        return best, jaccard[best]
