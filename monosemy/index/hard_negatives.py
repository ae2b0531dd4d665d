"""Negatives that look like positives: the same token, or a similar feature's text.  numpy only.

Shapes, distinct rows, crowding and near-duplicates are as in ``Sampler.negatives``; so is the
price: bounded by constants here, not by the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest

import numpy as np
import numpy.typing as npt

from monosemy.index.examples import Example, FeaturePostings, Ints
from monosemy.index.feature_text import FeatureText
from monosemy.index.negatives import NegativeSlots
from monosemy.index.sampling import Sampler, generator
from monosemy.index.token_positions import TokenPositions

TOP_TOKENS = 8
"""Tokens that a feature fires on most often, whose other occurrences are candidates."""

OCCURRENCES = (256, 4096)
"""Occurrences of each token that are tried, first and then if these are too few."""

PER_NEIGHBOUR = 3
"""Windows around one neighbour's firings, before all neighbours had their turn."""

NEIGHBOUR_FIRINGS = (96, 4096)
"""Firings of each neighbour that are tried, first and then if these are too few."""

_TOGETHER = 128
"""Candidates tried in one batch."""

_PASSES = 4
"""Slots that a candidate is tried for: those that are left may have other shapes."""


def same_token_negatives(
    sampler: Sampler,
    tokens: TokenPositions,
    feature: int,
    split: int,
    count: int,
    seed: int,
    like: Sequence[Example],
) -> list[Example]:
    """``count`` silent windows with a token in their middle on which the feature often fires.

    The ``TOP_TOKENS`` tokens with most firings, each as often as the feature fires on it, as far as
    it occurs without.  Which tokens they are is read off the firings of all documents but those of
    ``split``.  Fewer are returned for a feature that fires nearly wherever its tokens stand.
    """
    rng = generator(feature, split, seed + 2_000_003)
    slots = sampler.slots(feature, split, count, like, rng)
    ids, firings = _top_tokens(sampler, feature, split)
    for most in OCCURRENCES:
        if not slots.empty() or len(ids) == 0:
            break
        occurrences = [_some(tokens(token), most, rng) for token in ids.tolist()]
        # Weighted order (Efraimidis and Spirakis 2006): a token's candidates together weigh as
        # much as its firings, however often it occurs.
        sizes = [len(places) for places in occurrences]
        weight = np.repeat(firings / np.maximum(sizes, 1), sizes)
        order = np.argsort(rng.standard_exponential(len(weight)) / weight)
        _offer(sampler, slots, split, np.concatenate(occurrences)[order])
    return slots.filled()


def neighbour_negatives(
    sampler: Sampler,
    feature: int,
    split: int,
    count: int,
    seed: int,
    like: Sequence[Example],
    neighbours: Sequence[tuple[int, str]] | None = None,
) -> list[Example]:
    """``count`` windows around firings of the nearest features in which the feature is silent.

    Neighbours by decoder cosine and by co-activation take turns, nearest first, a few windows each
    (``PER_NEIGHBOUR``), more where that is not enough.  ``group`` names the neighbour, the measure
    and its value: ``"neighbour 17 cosine 0.83"``.  Without any neighbour there are none.
    ``neighbours`` are others to take instead, with the ``group`` of each.
    """
    rng = generator(feature, split, seed + 3_000_017)
    slots = sampler.slots(feature, split, count, like, rng)
    if neighbours is None:
        neighbours = nearest_features(sampler, feature)
    for most, each in zip(NEIGHBOUR_FIRINGS, (PER_NEIGHBOUR, count), strict=True):
        if not slots.empty() or not neighbours:
            break
        places, groups = [], []
        for neighbour, group in neighbours:
            text = FeatureText(sampler.reader, sampler.store, neighbour, most)
            places.append(rng.permutation(text.of_split(split).postings.positions))
            sampler.reader.release(neighbour)
            groups += [group] * len(places[-1])
        _offer(sampler, slots, split, np.concatenate(places), np.array(groups), each)
    return slots.filled()


def nearest_features(sampler: Sampler, feature: int) -> list[tuple[int, str]]:
    """(neighbour, measure and value in words), nearest first, cosine and Jaccard in turn."""
    evidence = sampler.reader.evidence(feature)
    lists = (("cosine", evidence.cosine_neighbours), ("jaccard", evidence.coactive_neighbours))
    named = (
        [
            (n.feature, f"neighbour {n.feature} {name} {n.value:.2f}")
            for n in neighbours
            if n.value > 0
        ]
        for name, neighbours in lists
    )
    turns = [pair for pair in chain.from_iterable(zip_longest(*named)) if pair is not None]
    first: dict[int, str] = {}
    for neighbour, words in turns:
        first.setdefault(neighbour, words)
    return list(first.items())


def _top_tokens(sampler: Sampler, feature: int, split: int) -> tuple[Ints, Ints]:
    """(token ids, firings of each) of the tokens with most firings, most first."""
    text = sampler.text_of(feature)
    elsewhere: FeaturePostings = text.postings.where(text.splits != split)
    if len(elsewhere) == 0:
        elsewhere = text.postings
    ids, firings = np.unique(sampler.tokens[elsewhere.positions], return_counts=True)
    best = np.argsort(-firings, kind="stable")[:TOP_TOKENS]
    return ids[best].astype(np.int64), firings[best].astype(np.int64)


def _some(positions: npt.NDArray[np.unsignedinteger], most: int, rng: np.random.Generator) -> Ints:
    """All positions or, of more than ``most``, so many at random, one from each stretch."""
    total = len(positions)
    if total <= most:
        return positions.astype(np.int64)
    borders = np.arange(most + 1, dtype=np.int64) * total // most
    picked = borders[:-1] + (rng.random(most) * np.diff(borders)).astype(np.int64)
    return positions[picked].astype(np.int64)


def _offer(
    sampler: Sampler,
    slots: NegativeSlots,
    split: int,
    middles: Ints,
    groups: npt.NDArray[np.str_] | None = None,
    most: int | None = None,
) -> None:
    """Fills slots with windows around ``middles``, in order, with ``most`` of a group at most."""
    rows, inside = _rows_within(sampler, split, middles)
    left = np.flatnonzero(inside)
    for turn in range(_PASSES):
        kept = []
        # Few at a time: those taken first make most of the others needless.
        for begin in range(0, len(left), _TOGETHER):
            empty = slots.empty()
            if not empty:
                return
            now = left[begin : begin + _TOGETHER]
            # Slot by slot in turn; those that do not fit this time are tried for the next slot.
            turns = np.array(empty)[(np.arange(len(now)) + turn) % len(empty)]
            names = None if groups is None else groups[now].tolist()
            kept.append(np.delete(now, slots.fill(turns, middles[now], rows[now], names, most)))
        left = np.concatenate(kept) if kept else left


def _rows_within(
    sampler: Sampler, split: int, positions: Ints
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """(rows of the positions, whether each is an indexed row of the split)."""
    store, indexed = sampler.store, sampler.reader.rows
    rows = np.searchsorted(sampler.row_start, positions, side="right") - 1
    place = np.minimum(np.searchsorted(indexed, rows), len(indexed) - 1)
    documents = np.asarray(store.row_document)[rows]
    splits = sampler.reader.split_of_documents(store)[documents]
    return rows, (indexed[place] == rows) & (splits == split)
