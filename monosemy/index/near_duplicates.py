"""Windows of tokens that read almost the same.  numpy only.

Two windows are near-duplicates if their sets of three-token shingles (Broder 1997) have 80 % of
their union in common (Jaccard index), or if one holds most of the other: a text that stands twice
in a corpus is cut into rows at other places, so that its windows are shifted or clipped.  A window
of fewer than three tokens is one shingle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

import numpy as np
import numpy.typing as npt

from monosemy.index.examples import Ints

SHINGLE = 3
JACCARD = 0.8
"""Share of all their shingles that makes two windows near-duplicates."""
CONTAINED = 0.6
"""Share of the shorter one's shingles that does so too, given ..."""
LEAST_SHARED, LEAST_OF_LONGER = 8, 0.25
"""... so many in common, and this share of the longer one's."""

_TABLE_BITS = 20
_MULTIPLIERS = tuple(np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F))

Shingles = frozenset[Hashable]


def shingles(tokens: npt.NDArray[np.integer]) -> Shingles:
    """The set of three-token runs of a window, or the window itself if it is shorter."""
    ids = tokens.tolist()
    if len(ids) < SHINGLE:
        return frozenset([tuple(ids)])
    return frozenset(zip(ids, ids[1:], ids[2:], strict=False))


def near_duplicates(one: Shingles, two: Shingles) -> bool:
    """Whether two windows read almost the same (see above); symmetric."""
    return _is_near(len(one & two), len(one), len(two))


def _is_near(shared: int, one: int, two: int) -> bool:
    if shared >= JACCARD * (one + two - shared):
        return True
    least = max(LEAST_SHARED, CONTAINED * min(one, two), LEAST_OF_LONGER * max(one, two))
    return shared >= least


class SeenWindows:
    """Windows that are taken or must not be met again.

    Sets of shingles are exact but slow in Python, and most windows share next to nothing with any
    other.  So shingles are hashed into a table first, for all windows at once; only a window that
    shares enough with the table or with its batch to be anyone's near-duplicate is compared in
    earnest.  A collision costs time, never an answer.
    """

    def __init__(self, tokens: npt.NDArray[np.integer]) -> None:
        self._tokens = tokens
        self._table = np.zeros(1 << _TABLE_BITS, np.bool_)
        self._waiting: list[tuple[int, int]] = []
        self._sizes: list[int] = []
        self._holders: dict[Hashable, list[int]] = {}

    def add(self, starts: Ints, ends: Ints) -> None:
        """Windows that are met already, ``tokens[start:end]`` each."""
        self._table[self._hashes(starts, ends)[0]] = True
        self._waiting += zip(starts.tolist(), ends.tolist(), strict=True)

    def suspects(self, starts: Ints, ends: Ints) -> npt.NDArray[np.bool_]:
        """False for windows that are near-duplicates neither of a seen one nor of each other."""
        hashes, owners = self._hashes(starts, ends)
        # Who comes first and last with a shingle differ where more than one window has it.
        first, last = (np.empty(1 << _TABLE_BITS, np.int32) for _ in range(2))
        last[hashes] = owners
        first[hashes[::-1]] = owners[::-1]
        shared = self._table[hashes] | (first[hashes] != last[hashes])
        found = np.bincount(owners[shared], minlength=len(starts))
        # Collisions and repetitions only raise what is found and lower the size: a near-duplicate
        # is always suspected.
        keys = np.unique(owners.astype(np.int64) << _TABLE_BITS | hashes)
        sizes = np.bincount(keys >> _TABLE_BITS, minlength=len(starts))
        least = np.maximum(LEAST_SHARED, LEAST_OF_LONGER * sizes)
        return np.asarray(found >= np.minimum(JACCARD * sizes, least))

    def take(self, start: int, end: int, suspect: bool = True) -> bool:
        """Adds a window unless it is a near-duplicate of a seen one; whether it did.

        ``suspect`` is what ``suspects`` said of it, in a batch that held all windows taken since.
        """
        if suspect and self._met(start, end):
            return False
        self.add(np.array([start]), np.array([end]))
        return True

    def _met(self, start: int, end: int) -> bool:
        for waiting in self._waiting:
            self._index(*waiting)
        self._waiting = []
        own = shingles(self._tokens[start:end])
        shared = Counter(number for each in own for number in self._holders.get(each, ()))
        return any(_is_near(n, len(own), self._sizes[number]) for number, n in shared.items())

    def _index(self, start: int, end: int) -> None:
        found = shingles(self._tokens[start:end])
        for each in found:
            self._holders.setdefault(each, []).append(len(self._sizes))
        self._sizes.append(len(found))

    def _hashes(self, starts: Ints, ends: Ints) -> tuple[Ints, npt.NDArray[np.int32]]:
        """(hashes of all shingles of the windows, which window each is of)."""
        lengths = np.maximum(ends - starts - (SHINGLE - 1), 1)
        owners = np.repeat(np.arange(len(starts), dtype=np.int32), lengths)
        firsts = np.cumsum(lengths) - lengths
        places = np.repeat(starts - firsts, lengths) + np.arange(len(owners))
        short = ends - starts < SHINGLE
        mixed = np.zeros(len(owners), np.uint64)
        last = ends[owners] - 1
        for step in range(SHINGLE):
            # Past the end of a short window stands its last token: any fixed rule will do.
            at = np.minimum(places + step, last) if short.any() else places + step
            mixed = (mixed ^ self._tokens[at].astype(np.uint64)) * _MULTIPLIERS[step % 2]
            mixed ^= mixed >> np.uint64(29)
        return (mixed >> np.uint64(64 - _TABLE_BITS)).astype(np.int64), owners
