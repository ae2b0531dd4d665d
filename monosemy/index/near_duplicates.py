"""Windows of tokens that read almost the same.  numpy only.

Two windows are near-duplicates if their sets of three-token shingles (Broder 1997) have 80 % of
their union in common (Jaccard index), or if one holds most of the other: a text that stands twice
in a corpus is cut into rows at other places, so that its windows are shifted or clipped.  In a
window of fewer than three tokens the last one counts again.  Shingles are compared as 64-bit
hashes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from monosemy.index.ordering import Ints, distinct

SHINGLE = 3
JACCARD = 0.8
"""Share of all their shingles that makes two windows near-duplicates."""
CONTAINED = 0.6
"""Share of the shorter one's shingles that does so too, given ..."""
LEAST_SHARED, LEAST_OF_LONGER = 8, 0.25
"""... so many in common, and this share of the longer one's."""

_TABLE_BITS = 18
_MULTIPLIERS = tuple(np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F))

_Hashes = npt.NDArray[np.uint64]


def is_near(shared: Ints, one: Ints, two: Ints) -> npt.NDArray[np.bool_]:
    """Whether windows of ``one`` and ``two`` shingles with ``shared`` in common are too alike."""
    least = np.maximum(CONTAINED * np.minimum(one, two), LEAST_OF_LONGER * np.maximum(one, two))
    contained = shared >= np.maximum(least, LEAST_SHARED)
    return np.asarray(contained | (shared >= JACCARD * (one + two - shared)))


def shingle_hashes(
    tokens: npt.NDArray[np.integer], starts: Ints, ends: Ints
) -> tuple[_Hashes, npt.NDArray[np.int32]]:
    """(hash of every shingle of the windows ``tokens[start:end]``, which window it is of).

    Windows are not empty; shingles come window by window, repetitions included.
    """
    # All windows one after the other, a short one with its last token again and again.
    lengths = np.maximum(ends - starts, SHINGLE)
    firsts = np.cumsum(lengths) - lengths
    places = np.repeat(starts - firsts, lengths) + np.arange(int(lengths.sum()))
    if (lengths != ends - starts).any():
        places = np.minimum(places, np.repeat(ends - 1, lengths))
    ids = tokens[places].astype(np.uint64)
    count = max(len(ids) - (SHINGLE - 1), 0)
    mixed = np.zeros(count, np.uint64)
    for step in range(SHINGLE):
        mixed = (mixed ^ ids[step : step + count]) * _MULTIPLIERS[step % 2]
        mixed ^= mixed >> np.uint64(29)
    # Those that begin in one window and end in the next are none.
    inside = np.ones(count, np.bool_)
    borders = firsts[1:, None] - np.arange(1, SHINGLE)
    inside[borders.ravel()] = False
    owners = np.repeat(np.arange(len(starts), dtype=np.int32), lengths - (SHINGLE - 1))
    return mixed[inside], owners


@dataclass(frozen=True)
class _ShingleSets:
    """The shingles of some windows: hashes ascending, none twice for the same owner."""

    hashes: _Hashes
    owners: npt.NDArray[np.int32]
    sizes: Ints
    """Shingles of each window."""

    def near(self, other: _ShingleSets) -> tuple[Ints, Ints]:
        """The pairs (window of this, window of the other) that are near-duplicates."""
        low = np.searchsorted(self.hashes, other.hashes, side="left")
        counts = np.searchsorted(self.hashes, other.hashes, side="right") - low
        firsts = np.cumsum(counts) - counts
        which = np.repeat(low - firsts, counts) + np.arange(int(counts.sum()))
        keys = self.owners[which].astype(np.int64) * len(other.sizes)
        pairs, shared = np.unique(keys + np.repeat(other.owners, counts), return_counts=True)
        mine, theirs = np.divmod(pairs, max(len(other.sizes), 1))
        close = is_near(shared, self.sizes[mine], other.sizes[theirs])
        return mine[close], theirs[close]


def _shingle_sets(tokens: npt.NDArray[np.integer], starts: Ints, ends: Ints) -> _ShingleSets:
    hashes, owners = shingle_hashes(tokens, starts, ends)
    order = np.argsort(hashes, kind="stable")  # owners ascend, and stay so among equals
    hashes, owners = hashes[order], owners[order]
    new = np.ones(len(hashes), np.bool_)
    new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    hashes, owners = hashes[new], owners[new]
    return _ShingleSets(hashes, owners, np.bincount(owners, minlength=len(starts)))


@dataclass(frozen=True)
class _Pile:
    """Windows that were added together, and their shingles."""

    starts: Ints
    ends: Ints
    hashes: _Hashes
    owners: npt.NDArray[np.int32]

    def like(self, others: _ShingleSets, tokens: npt.NDArray[np.integer]) -> _ShingleSets | None:
        """Those that have a shingle of ``others``, and maybe some more."""
        table = np.zeros(1 << _TABLE_BITS, np.bool_)
        table[_short(others.hashes)] = True
        similar = np.zeros(len(self.starts), np.bool_)
        similar[self.owners[table[_short(self.hashes)]]] = True
        if not similar.any():
            return None
        return _shingle_sets(tokens, self.starts[similar], self.ends[similar])


class SeenWindows:
    """Windows that are taken or must not be met again.

    Most windows share next to nothing with any other.  So shingles are looked up in a table first;
    only a window that has enough in common with all seen ones together, or with its batch, to be
    anyone's near-duplicate is compared with each.
    """

    def __init__(self, tokens: npt.NDArray[np.integer]) -> None:
        self._tokens = tokens
        self._table = np.zeros(1 << _TABLE_BITS, np.bool_)
        self._scratch = np.empty((2, 1 << _TABLE_BITS), np.int32)
        self._piles: list[_Pile] = []

    def copy(self) -> SeenWindows:
        """An independent copy."""
        other = SeenWindows.__new__(SeenWindows)
        other._tokens, other._scratch = self._tokens, self._scratch
        other._table, other._piles = self._table.copy(), list(self._piles)
        return other

    def add(self, starts: Ints, ends: Ints) -> None:
        """Windows that are met already, ``tokens[start:end]`` each."""
        if len(starts) == 0:
            return
        hashes, owners = shingle_hashes(self._tokens, starts, ends)
        self._table[_short(hashes)] = True
        self._piles.append(_Pile(starts, ends, hashes, owners))

    def batch(self, starts: Ints, ends: Ints) -> WindowBatch:
        """Candidates, to be taken one by one; what is taken is then seen."""
        hashes, owners = shingle_hashes(self._tokens, starts, ends)
        suspects = np.flatnonzero(self._suspects(hashes, owners, len(starts)))
        met: set[int] = set()
        twins: dict[int, set[int]] = {}
        if len(suspects):
            own = _shingle_sets(self._tokens, starts[suspects], ends[suspects])
            for pile in self._piles:
                old = pile.like(own, self._tokens)
                if old is not None:
                    met.update(suspects[old.near(own)[1]].tolist())
            for one, two in zip(*(suspects[side].tolist() for side in own.near(own)), strict=True):
                twins.setdefault(one, set()).add(two)
        return WindowBatch(self, starts, ends, met, twins)

    def _suspects(
        self, hashes: _Hashes, owners: npt.NDArray[np.int32], count: int
    ) -> npt.NDArray[np.bool_]:
        """False for windows that are no near-duplicates of a seen one nor of each other."""
        short = _short(hashes)
        # Who comes first and last with a shingle differ where more than one window has it.
        first, last = self._scratch
        last[short] = owners
        first[short[::-1]] = owners[::-1]
        shared = self._table[short] | (first[short] != last[short])
        common = np.bincount(owners[shared], minlength=count)
        # Collisions and repetitions only raise what is found and lower the size: a near-duplicate
        # is always suspected.
        keys = np.sort(owners.astype(np.int64) << _TABLE_BITS | short)
        sizes = np.bincount(keys[distinct(keys)] >> _TABLE_BITS, minlength=count)
        least = np.maximum(LEAST_SHARED, LEAST_OF_LONGER * sizes)
        return np.asarray(common >= np.minimum(JACCARD * sizes, least))


@dataclass
class WindowBatch:
    """Candidates compared with what was seen and with each other."""

    seen: SeenWindows
    starts: Ints
    ends: Ints
    met: set[int]
    """Near-duplicates of a seen window."""
    twins: dict[int, set[int]]
    """Near-duplicates of each other, themselves included."""
    taken: set[int] = field(default_factory=set)

    def take(self, number: int) -> bool:
        """Takes a window unless it is a near-duplicate of a seen or taken one; whether it did."""
        if number in self.met or self.twins.get(number, set()) & self.taken:
            return False
        self.taken.add(number)
        return True

    def close(self) -> None:
        """What was taken is now seen."""
        chosen = np.array(sorted(self.taken), np.int64)
        self.seen.add(self.starts[chosen], self.ends[chosen])


def _short(hashes: _Hashes) -> Ints:
    return (hashes >> np.uint64(64 - _TABLE_BITS)).astype(np.int64)
