"""From a stream of codes, token by token, to postings, feature by feature, in bounded memory.

An external counting sort.  Codes are gathered into chunks; each chunk is sorted by feature (stable,
so positions stay ascending) and kept in memory or, past a budget, on disk; the merge then reads one
block of features out of all chunks at a time.  numpy only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from monosemy.errors import DataError
from monosemy.index.ordering import Ints, stable_order

CHUNK_POSTINGS = 4_000_000
MEMORY_BYTES = 256 * 2**20


@dataclass(frozen=True)
class _Chunk:
    """Postings of some tokens sorted by feature; ``indptr`` int64 [F + 1]."""

    indptr: Ints
    positions: npt.NDArray[np.unsignedinteger]
    values: npt.NDArray[np.float32]

    def bounds(self, first: int, last: int) -> Ints:
        """``indptr[first : last + 1]``."""
        return self.indptr[first : last + 1]

    def read(self, piece: slice) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        """(positions, values) of some postings."""
        return self.positions[piece], self.values[piece]

    def spill(self, stem: Path) -> _SpilledChunk:
        """Writes the arrays as raw files beside ``stem``."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        spilled = _SpilledChunk(
            indptr=stem.with_suffix(".indptr"),
            positions=stem.with_suffix(".positions"),
            values=stem.with_suffix(".values"),
            position_dtype=self.positions.dtype,
        )
        self.indptr.astype(np.int64, copy=False).tofile(spilled.indptr)
        self.positions.tofile(spilled.positions)
        self.values.tofile(spilled.values)
        return spilled


@dataclass(frozen=True)
class _SpilledChunk:
    """A chunk on disk.  It is read, not mapped: mapped pages would count as our memory."""

    indptr: Path
    positions: Path
    values: Path
    position_dtype: np.dtype[Any]

    def bounds(self, first: int, last: int) -> Ints:
        return _read(self.indptr, np.dtype(np.int64), slice(first, last + 1))

    def read(self, piece: slice) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        positions = _read(self.positions, self.position_dtype, piece)
        return positions, _read(self.values, np.dtype(np.float32), piece)


def _read(file: Path, dtype: np.dtype[Any], piece: slice) -> npt.NDArray[Any]:
    offset = piece.start * dtype.itemsize
    return np.fromfile(file, dtype, count=piece.stop - piece.start, offset=offset)


@dataclass(frozen=True)
class PostingBlock:
    """All postings of the features ``[first, last)``, one feature after the other."""

    first: int
    last: int
    indptr: Ints
    """[last - first + 1], starting at 0."""
    positions: npt.NDArray[np.unsignedinteger]
    values: npt.NDArray[np.float32]


class PostingSorter:
    """Takes codes in ascending token order (``add``), gives blocks of features (``blocks``).

    Memory: one chunk being gathered and sorted (about 40 bytes per posting of it), finished chunks
    up to ``memory_bytes``; the rest lies in ``spill_folder``, 8 to 12 bytes per posting.
    """

    def __init__(
        self,
        n_features: int,
        n_positions: int,
        spill_folder: Path,
        chunk_postings: int = CHUNK_POSTINGS,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.n_features = n_features
        self.position_dtype = np.dtype(np.uint32 if n_positions < 2**32 else np.uint64)
        self.counts = np.zeros(n_features, np.int64)
        self.spilled_chunks = 0
        self._feature_dtype = np.uint16 if n_features <= 2**16 else np.uint32
        self._spill_folder = spill_folder
        self._chunk_postings = chunk_postings
        self._memory_left = memory_bytes
        self._chunks: list[_Chunk | _SpilledChunk] = []
        self._features: list[npt.NDArray[np.integer]] = []
        self._positions: list[npt.NDArray[np.integer]] = []
        self._values: list[npt.NDArray[np.float32]] = []
        self._gathered = 0

    @property
    def total(self) -> int:
        """Postings taken so far (those still being gathered left out)."""
        return int(self.counts.sum())

    def add(
        self,
        positions: npt.NDArray[np.integer],
        indices: npt.NDArray[np.integer],
        values: npt.NDArray[np.float32],
    ) -> None:
        """Codes of some tokens: positions [n] ascending, indices and values [n, k].

        A posting is a code above zero; zeros (padding) and negative values are left out.
        """
        firing = values > 0
        self._features.append(indices[firing].astype(self._feature_dtype))
        # Rows are visited in order, so the repeat yields the position of each true entry.
        repeated = np.repeat(positions.astype(self.position_dtype), firing.sum(axis=1))
        self._positions.append(repeated)
        self._values.append(values[firing].astype(np.float32, copy=False))
        self._gathered += len(repeated)
        if self._gathered >= self._chunk_postings:
            self.flush()

    def flush(self) -> None:
        """Sorts what was gathered into a chunk."""
        if self._gathered == 0:
            return
        features = np.concatenate(self._features)
        positions = np.concatenate(self._positions)
        values = np.concatenate(self._values)
        self._features, self._positions, self._values = [], [], []
        self._gathered = 0
        counts = np.bincount(features, minlength=self.n_features)
        order = stable_order(features, self.n_features - 1)
        positions, values = positions[order], values[order]
        indptr = np.concatenate([[0], np.cumsum(counts)])
        _refuse_repeats(positions, indptr)
        self.counts += counts
        self._keep(_Chunk(indptr, positions, values))

    def _keep(self, chunk: _Chunk) -> None:
        size = chunk.indptr.nbytes + chunk.positions.nbytes + chunk.values.nbytes
        if size <= self._memory_left:
            self._memory_left -= size
            self._chunks.append(chunk)
            return
        # Once one does not fit, later ones (about as large) do not either.
        self._memory_left = 0
        stem = self._spill_folder / f"chunk-{len(self._chunks):06d}"
        self._chunks.append(chunk.spill(stem))
        self.spilled_chunks += 1

    def blocks(self, block_features: int, block_postings: int) -> Iterator[PostingBlock]:
        """Merged postings in blocks of features; empty features included, every feature once.

        A block holds at most ``block_features`` features and, unless it is a single feature, at
        most ``block_postings`` postings.
        """
        self.flush()
        ends = np.cumsum(self.counts)
        first = 0
        while first < self.n_features:
            before = int(ends[first - 1]) if first else 0
            fitting = int(np.searchsorted(ends, before + block_postings, side="right"))
            last = min(max(fitting, first + 1), first + block_features, self.n_features)
            yield self._merge(first, last)
            first = last

    def _merge(self, first: int, last: int) -> PostingBlock:
        indptr = np.concatenate([[0], np.cumsum(self.counts[first:last])])
        positions = np.empty(int(indptr[-1]), self.position_dtype)
        values = np.empty(int(indptr[-1]), np.float32)
        write = indptr[:-1].copy()
        for chunk in self._chunks:
            bounds = chunk.bounds(first, last)
            counts = np.diff(bounds)
            source = slice(int(bounds[0]), int(bounds[-1]))
            shift = write - (bounds[:-1] - bounds[0])
            target = np.repeat(shift, counts) + np.arange(source.stop - source.start)
            positions[target], values[target] = chunk.read(source)
            write += counts
        return PostingBlock(first, last, indptr, positions, values)


def _refuse_repeats(positions: npt.NDArray[np.unsignedinteger], indptr: Ints) -> None:
    """Within each feature positions must rise: else codes repeat a latent or rows are unordered."""
    falls = positions[1:] <= positions[:-1]
    borders = indptr[1:-1]
    borders = borders[(borders > 0) & (borders < len(positions))]
    falls[borders - 1] = False
    if falls.any():
        raise DataError(
            "A token's codes name the same latent twice, or tokens came out of order.",
            "The encoder must give distinct latents, the source tokens in row order.",
        )
