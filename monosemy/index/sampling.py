"""Examples of one split of documents, for explaining and for scoring.  numpy only.

Positives are windows around firings; negatives are windows of the same shape without any
(``hard_negatives`` has closer ones).  All is deterministic by (feature, split, seed), and costs the
same however long the text is.

No two windows of a sample are near-duplicates (``near_duplicates``), nor does a window of a later
split read like one that explanations may show.  For that, explanation and validation splits have a
fixed pool of windows per feature, whatever the seed and the number asked for: their samples are
drawn from it, and later splits avoid all of it.  So a scorer need not know what was shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from monosemy.data.splits import TEST, TRAIN
from monosemy.errors import DataError
from monosemy.index.examples import (
    TOP,
    Example,
    Ints,
    draw,
    make_examples,
    strata,
    strongest_per_document,
)
from monosemy.index.feature_text import FeatureText, SplitPostings
from monosemy.index.near_duplicates import SeenWindows
from monosemy.index.negatives import NegativeSlots
from monosemy.index.reader import IndexReader

if TYPE_CHECKING:
    from monosemy.data.store import TokenStore

Strategy = Literal["quantiles", "top", "random"]

PER_DOCUMENT = 3
"""At most so many examples of one sample come from one document."""

POOL_STRATA, POOL_PER_STRATUM, POOL_TOP = 10, 26, 100
"""The pool of a split: so many windows from each stratum of activation, and so many top ones."""

_ROUNDS, _TRIES = 24, 4
"""Rounds of candidate windows per negative before it counts as missing."""


@dataclass
class _OneFeature:
    text: FeatureText
    pools: dict[int, Ints] = field(default_factory=dict)
    seen: dict[int, SeenWindows] = field(default_factory=dict)


class Sampler:
    """Samples of the features of an index.  Keeps what it last read of one feature."""

    def __init__(self, reader: IndexReader, store: TokenStore) -> None:
        reader.check_store(store)
        self.reader = reader
        self.store = store
        self.row_start = np.asarray(store.row_start, np.int64)
        self.tokens = np.asarray(store.tokens)  # a plain view: a memmap object is slow to index
        self._last: _OneFeature | None = None
        self._documents: dict[int, int] = {}

    def examples(
        self,
        feature: int,
        split: int,
        count: int,
        seed: int,
        strategy: Strategy = "quantiles",
        n_strata: int | None = None,
    ) -> list[Example]:
        """``count`` activating windows of a split, weakest stratum first; fewer if there are none.

        ``quantiles``: as many from each of ``n_strata`` strata of equal count of the split's
        activations (the index's own number by default; a remainder goes to the strongest strata,
        what a stratum lacks the others give); ``random``: one stratum; ``top``: the strongest, one
        per document.  ``group`` is the stratum, 0 the weakest, or ``"top"``.  Rows are distinct, no
        two windows are near-duplicates of each other or of what an earlier split may show, at most
        ``PER_DOCUMENT`` come from one document.  Raises ``DataError`` for another text, an unknown
        split or strategy.
        """
        if strategy not in ("quantiles", "random", "top"):
            raise DataError(f"'{strategy}' is no way to sample.", "Use quantiles, top or random.")
        if split not in range(TRAIN, TEST + 1):
            raise DataError(f"There is no explanation split {split}.", "Use 0, 1 or 2.")
        firings = self.text_of(feature).of_split(split)
        if count <= 0 or len(firings.postings) == 0:
            return []
        seen = self.seen_before(feature, split)
        if strategy == "top":
            return self._take_in_turn(firings, [_strongest(firings)], count, seen, [TOP])
        n_strata = (n_strata or self.reader.quantiles) if strategy == "quantiles" else 1
        layers = strata(firings.ascending, n_strata)
        if split != TEST:
            pool = np.zeros(len(firings.postings), np.bool_)
            pool[self._pool(feature, split)] = True
            layers = [layer[pool[layer]] for layer in layers]
        rng = generator(feature, split, seed)
        # A stratum may lack some, or texts may repeat: only then many more are looked at.
        for each in (2 * -(-count // n_strata) + 4, 8 * count):
            drawn = _draw(firings, layers, each, rng)
            examples = self._take_in_turn(firings, drawn, count, seen, range(n_strata))
            if len(examples) == count or max(map(len, drawn)) < each:
                break
            seen = self.seen_before(feature, split)
        return examples

    def negatives(
        self, feature: int, split: int, count: int, seed: int, like: Sequence[Example] = ()
    ) -> list[Example]:
        """``count`` random windows of a split in which the feature never fires.

        Each copies the shape (tokens before and after its middle) of one of ``like``, in turn, so
        that lengths reveal nothing; without ``like``, of windows around random tokens.  Its row is
        drawn among all indexed rows of the split that are long enough, its place uniformly in the
        row; windows with a firing are rejected against the sorted postings, O(count log postings).
        Rows are distinct and none of ``like``'s, at most ``PER_DOCUMENT`` windows come from a
        document unless the split has too few documents for that; near-duplicates as in
        ``examples``, those of ``like`` included.  Fewer are returned if the feature fires nearly
        everywhere.
        """
        rows = self.reader.rows_of_split(self.store, split)
        if count <= 0 or len(rows) == 0:
            return []
        rng = generator(feature, split, seed + 1_000_003)
        slots = self.slots(feature, split, count, like, rng)
        for _ in range(_ROUNDS):
            empty = slots.empty()
            if not empty:
                break
            # Each slot keeps its shape until it is filled: long windows are rejected more often.
            tries = np.repeat(np.array(empty), _TRIES)
            before, after = slots.shapes[tries].T
            drawn = rows[rng.integers(len(rows), size=len(tries))]
            room = self.row_start[drawn + 1] - self.row_start[drawn] - (before + after)
            offset = np.floor(rng.random(len(tries)) * (room + 1)).astype(np.int64)
            middles = self.row_start[drawn] + np.maximum(offset, 0) + before
            slots.fill(tries, middles, drawn)
        return slots.filled()

    def slots(
        self,
        feature: int,
        split: int,
        count: int,
        like: Sequence[Example],
        rng: np.random.Generator,
    ) -> NegativeSlots:
        """Empty places for ``count`` negatives shaped like ``like``."""
        rows = self.reader.rows_of_split(self.store, split)
        seen = self.seen_before(feature, split)
        seen.add(np.array([e.start for e in like], int), np.array([e.end for e in like], int))
        per_document = max(PER_DOCUMENT, -(-count // max(self._documents_of(split), 1)))
        return NegativeSlots(
            self.store,
            self.text_of(feature),
            self._shapes(like, rows, count, rng),
            seen,
            {example.row for example in like},
            per_document,
        )

    def text_of(self, feature: int) -> FeatureText:
        """The firings of a feature."""
        return self._of(feature).text

    def seen_before(self, feature: int, split: int) -> SeenWindows:
        """Every window that earlier splits may show of the feature."""
        seen = self._of(feature).seen
        if split not in seen:
            windows = SeenWindows(self.tokens)
            for earlier in range(split):
                firings = self.text_of(feature).of_split(earlier)
                used = np.zeros(len(firings.postings), np.bool_)
                used[self._pool(feature, earlier)] = True
                used[_strongest(firings)] = True
                windows.add(*firings.bounds(np.flatnonzero(used)))
            seen[split] = windows
        return seen[split].copy()

    def _of(self, feature: int) -> _OneFeature:
        if self._last is None or self._last.text.feature != feature:
            if self._last is not None:
                self.reader.release(self._last.text.feature)
            self._last = _OneFeature(FeatureText(self.reader, self.store, feature))
        return self._last

    def _pool(self, feature: int, split: int) -> Ints:
        """Which postings of the split may be shown, ascending; the same for every seed."""
        pools = self._of(feature).pools
        if split not in pools:
            firings = self.text_of(feature).of_split(split)
            layers = strata(firings.ascending, POOL_STRATA)
            drawn = _draw(firings, layers, POOL_PER_STRATUM, generator(feature, split, 0))
            pools[split] = np.sort(np.concatenate(drawn))
        return pools[split]

    def _documents_of(self, split: int) -> int:
        if split not in self._documents:
            rows = self.reader.rows_of_split(self.store, split)
            self._documents[split] = len(np.unique(np.asarray(self.store.row_document)[rows]))
        return self._documents[split]

    def _take_in_turn(
        self,
        firings: SplitPostings,
        layers: Sequence[Ints],
        count: int,
        seen: SeenWindows,
        groups: Sequence[str | int],
    ) -> list[Example]:
        """One from each layer in turn, last layer first, until ``count``; sorted by layer."""
        postings = firings.postings
        candidates = np.concatenate(layers)
        batch = seen.batch(*firings.bounds(candidates))
        rows = postings.rows[candidates].tolist()
        documents = postings.documents[candidates].tolist()
        taken: list[tuple[int, int]] = []
        used: set[int] = set()
        crowd: Counter[int] = Counter()
        ends_of = np.cumsum([len(layer) for layer in layers])
        queues = [
            (number, iter(range(end - len(layer), end)))
            for number, (layer, end) in enumerate(zip(layers, ends_of.tolist(), strict=True))
        ][::-1]
        most = PER_DOCUMENT if groups[0] != TOP else 1
        while queues and len(taken) < count:
            for number, queue in list(queues):
                for i in queue:
                    row, document = rows[i], documents[i]
                    if row in used or crowd[document] >= most:
                        continue
                    if not batch.take(i):
                        continue
                    used.add(row)
                    crowd[document] += 1
                    taken.append((number, i))
                    break
                else:
                    queues.remove((number, queue))
                if len(taken) == count:
                    break
        taken.sort(key=lambda item: item[0])
        chosen = candidates[[i for _, i in taken]] if taken else candidates[:0]
        names = [groups[number] for number, _ in taken]
        return make_examples(postings, self.row_start, chosen, names, self.reader.window)

    def _shapes(
        self, like: Sequence[Example], rows: Ints, count: int, rng: np.random.Generator
    ) -> Ints:
        """(tokens before, tokens from the middle on) of each negative, int64 [count, 2]."""
        if like:
            shapes = [(e.position - e.start, e.end - e.position) for e in like]
            return np.array([shapes[i % len(shapes)] for i in range(count)], np.int64)
        if len(rows) == 0:
            return np.zeros((count, 2), np.int64)
        drawn = rows[rng.integers(len(rows), size=count)]
        lengths = self.row_start[drawn + 1] - self.row_start[drawn]
        offsets = (rng.random(count) * lengths).astype(np.int64)
        before = np.minimum(offsets, self.reader.window)
        after = np.minimum(lengths - offsets, self.reader.window + 1)
        return np.stack([before, after], axis=1)


def _strongest(firings: SplitPostings) -> Ints:
    """What of a split may be shown as its top examples."""
    return strongest_per_document(firings.postings, firings.ascending, POOL_TOP)


def _draw(
    firings: SplitPostings, layers: Sequence[Ints], count: int, rng: np.random.Generator
) -> list[Ints]:
    """``count`` postings of each layer, windows' peaks first."""
    return draw(
        firings.postings,
        layers,
        count,
        lambda which: firings.peaks[which],
        rng,
        per_document=PER_DOCUMENT,
    )


def generator(feature: int, split: int, seed: int) -> np.random.Generator:
    """The randomness of one sample."""
    return np.random.default_rng([feature, split, seed % 2**32])
