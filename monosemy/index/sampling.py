"""Examples of one split of documents, for explaining and for scoring.  numpy only.

Positives are windows around firings; negatives are windows of the same shape without any.  All is
deterministic by (feature, split, seed).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from monosemy.errors import DataError
from monosemy.index.examples import (
    NEGATIVE,
    TOP,
    Example,
    FeaturePostings,
    Ints,
    draw,
    make_examples,
    rank,
    strata,
    strongest_per_document,
)
from monosemy.index.reader import IndexReader

if TYPE_CHECKING:
    from monosemy.data.store import TokenStore

Strategy = Literal["quantiles", "top", "random"]

PER_DOCUMENT = 3
"""At most so many examples of one sample come from one document."""

_ROUNDS, _TRIES = 24, 4
"""Rounds of so many candidate windows per negative before it counts as not to be had."""


def split_postings(
    reader: IndexReader, store: TokenStore, feature: int, split: int
) -> FeaturePostings:
    """All firings of a feature in the documents of one explanation split."""
    rows = reader.rows_of_split(store, split)
    positions, values = reader.postings(feature)
    row_start = np.asarray(store.row_start)
    row_of = np.searchsorted(row_start, positions, side="right") - 1
    place = np.minimum(np.searchsorted(rows, row_of), max(len(rows) - 1, 0))
    inside = rows[place] == row_of if len(rows) else np.zeros(len(positions), np.bool_)
    row_of = row_of[inside]
    documents = np.asarray(store.row_document)[row_of].astype(np.int64)
    return FeaturePostings(positions[inside], values[inside], row_of, documents)


def sample_examples(
    reader: IndexReader,
    store: TokenStore,
    feature: int,
    split: int,
    count: int,
    seed: int,
    strategy: Strategy = "quantiles",
) -> list[Example]:
    """``count`` activating windows of a split, weakest quantile first; fewer if there are no more.

    ``quantiles``: as many from each of the index's quantile strata of the split's activations
    (a remainder goes to the strongest strata; what a stratum lacks, the others give);
    ``random``: one stratum; ``top``: the strongest, one per document.  Rows are distinct, no two
    windows read the same, at most ``PER_DOCUMENT`` come from one document.
    """
    postings = split_postings(reader, store, feature, split)
    if count <= 0 or len(postings) == 0:
        return []
    row_start = np.asarray(store.row_start, np.int64)
    ascending = rank(postings)
    if strategy == "top":
        chosen = strongest_per_document(postings, ascending, 4 * count)
        examples = make_examples(postings, row_start, chosen, [TOP] * len(chosen), reader.window)
        return _different_texts(examples, store)[:count]
    if strategy not in ("quantiles", "random"):
        raise DataError(f"'{strategy}' is no way to sample.", "Use quantiles, top or random.")
    rng = _generator(feature, split, seed)
    layers = strata(ascending, reader.quantiles if strategy == "quantiles" else 1)
    pools = []
    for number, layer in enumerate(layers):
        # More than needed: other layers may lack some, and texts may repeat.
        drawn = draw(
            postings,
            row_start,
            layer,
            2 * count,
            reader.window,
            rng,
            np.zeros(0, np.int64),
            PER_DOCUMENT,
        )
        pools.append(
            make_examples(postings, row_start, drawn, [number] * len(drawn), reader.window)
        )
    return _take_in_turn(pools, count, store)


def sample_negatives(
    reader: IndexReader,
    store: TokenStore,
    feature: int,
    split: int,
    count: int,
    seed: int,
    like: Sequence[Example] = (),
) -> list[Example]:
    """``count`` random windows of a split in which the feature never fires.

    Each copies the shape (tokens before and after its middle) of one of ``like``, in turn, so that
    lengths tell nothing; without ``like``, of windows around random tokens.  Its row is drawn among
    all indexed rows of the split that are long enough, its place uniformly in the row; windows with
    a firing are rejected against the sorted postings, O(count log postings).  Rows are distinct
    and none of ``like``'s, at most ``PER_DOCUMENT`` windows come from a document unless the split
    has too few documents for that.  Fewer are returned if the feature fires nearly everywhere.
    """
    rows = reader.rows_of_split(store, split)
    rows = rows[~np.isin(rows, [example.row for example in like])]
    if count <= 0 or len(rows) == 0:
        return []
    rng = _generator(feature, split, seed + 1_000_003)
    row_start = np.asarray(store.row_start, np.int64)
    shapes = _shapes(like, rows, row_start, reader.window, count, rng)
    positions, _ = reader.postings(feature)
    documents = np.asarray(store.row_document)
    cap = max(PER_DOCUMENT, -(-count // max(len(np.unique(documents[rows])), 1)))
    slots: list[Example | None] = [None] * count
    for _ in range(_ROUNDS):
        empty = [i for i, example in enumerate(slots) if example is None]
        if not empty:
            break
        # Each slot keeps its shape until it is filled: long windows are rejected more often.
        tries = np.repeat(empty, _TRIES)
        windows = _try_windows(shapes[tries], rows, row_start, documents, positions, rng)
        _fill(slots, tries.tolist(), windows, cap)
    return [example for example in slots if example is not None]


def _generator(feature: int, split: int, seed: int) -> np.random.Generator:
    return np.random.default_rng([feature, split, seed % 2**32])


def _take_in_turn(pools: Sequence[list[Example]], count: int, store: TokenStore) -> list[Example]:
    """One from each pool in turn, strongest pool first, until ``count``; sorted by quantile."""
    taken: list[Example] = []
    rows: set[int] = set()
    texts: set[bytes] = set()
    documents: Counter[int] = Counter()
    waiting = [iter(pool) for pool in reversed(pools)]
    while waiting and len(taken) < count:
        for pool in list(waiting):
            for example in pool:
                text = _text_key(example, store)
                full = documents[example.document] >= PER_DOCUMENT
                if full or example.row in rows or text in texts:
                    continue
                rows.add(example.row)
                texts.add(text)
                documents[example.document] += 1
                taken.append(example)
                break
            else:
                waiting.remove(pool)
            if len(taken) == count:
                break
    return sorted(taken, key=lambda example: int(example.group))


def _text_key(example: Example, store: TokenStore) -> bytes:
    return np.asarray(store.tokens[example.start : example.end]).tobytes()


def _different_texts(examples: Sequence[Example], store: TokenStore) -> list[Example]:
    kept: dict[bytes, Example] = {}
    for example in examples:
        kept.setdefault(_text_key(example, store), example)
    return list(kept.values())


def _shapes(
    like: Sequence[Example],
    rows: Ints,
    row_start: Ints,
    window: int,
    count: int,
    rng: np.random.Generator,
) -> Ints:
    """(tokens before, tokens from the middle on) of each negative, int64 [count, 2]."""
    if like:
        shapes = [(e.position - e.start, e.end - e.position) for e in like]
        return np.array([shapes[i % len(shapes)] for i in range(count)], np.int64)
    drawn = rows[rng.integers(len(rows), size=count)]
    lengths = row_start[drawn + 1] - row_start[drawn]
    offsets = (rng.random(count) * lengths).astype(np.int64)
    before = np.minimum(offsets, window)
    return np.stack([before, np.minimum(lengths - offsets, window + 1)], axis=1)


def _try_windows(
    shapes: Ints,
    rows: Ints,
    row_start: Ints,
    documents: npt.NDArray[Any],
    positions: Ints,
    rng: np.random.Generator,
) -> list[Example | None]:
    """One random window per shape; None where it does not fit its row or holds a firing."""
    before, after = shapes[:, 0], shapes[:, 1]
    drawn = rows[rng.integers(len(rows), size=len(shapes))]
    room = row_start[drawn + 1] - row_start[drawn] - (before + after)
    start = row_start[drawn] + np.floor(rng.random(len(shapes)) * (room + 1)).astype(np.int64)
    end = start + before + after
    silent = np.searchsorted(positions, start) == np.searchsorted(positions, end)
    windows: list[Example | None] = [None] * len(shapes)
    for i in np.flatnonzero(silent & (room >= 0)).tolist():
        windows[i] = Example(
            row=int(drawn[i]),
            document=int(documents[drawn[i]]),
            position=int(start[i] + before[i]),
            group=NEGATIVE,
            start=int(start[i]),
            end=int(end[i]),
            offsets=(),
            values=(),
        )
    return windows


def _fill(
    slots: list[Example | None],
    places: Sequence[int],
    windows: Sequence[Example | None],
    per_document: int,
) -> None:
    """Puts windows into their empty slots, without repeated rows or crowded documents."""
    rows = {example.row for example in slots if example is not None}
    documents = Counter(example.document for example in slots if example is not None)
    for place, window in zip(places, windows, strict=True):
        if window is None or slots[place] is not None or window.row in rows:
            continue
        if documents[window.document] < per_document:
            slots[place] = window
            rows.add(window.row)
            documents[window.document] += 1
