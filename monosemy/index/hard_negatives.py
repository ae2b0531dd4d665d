"""Negatives that look like positives: the same token, or a similar feature's text.  numpy only.

Shapes, distinct rows, crowding and near-duplicates are as in ``Sampler.negatives``; so is the
price: bounded by constants here, not by the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest

import numpy as np
import numpy.typing as npt

from monosemy.data.splits import explanation_split
from monosemy.index.examples import Example, FeaturePostings, Ints
from monosemy.index.feature_text import FeatureText
from monosemy.index.negatives import NegativeSlots
from monosemy.index.sampling import Sampler, generator
from monosemy.index.token_positions import TokenPositions

TOP_TOKENS = 8
"""Tokens that a feature fires on most often, whose other occurrences are candidates."""

OCCURRENCES = (256, 4096)
"""Occurrences of each token that are looked at, and if these do not do."""

PER_NEIGHBOUR = 3
"""Windows around one neighbour's firings, before all neighbours had their turn."""

NEIGHBOUR_FIRINGS = (256, 4096)
"""Firings of each neighbour that are looked at, and if these do not do."""

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
        found = [_some(tokens(token), most, rng) for token in ids.tolist()]
        # Weighted order (Efraimidis and Spirakis 2006): a token's candidates together weigh as
        # much as its firings, however often it occurs.
        sizes = [len(places) for places in found]
        weight = np.repeat(firings / np.maximum(sizes, 1), sizes)
        order = np.argsort(rng.standard_exponential(len(weight)) / weight)
        _offer(sampler, slots, split, np.concatenate(found)[order])
    return slots.filled()


def neighbour_negatives(
    sampler: Sampler, feature: int, split: int, count: int, seed: int, like: Sequence[Example]
) -> list[Example]:
    """``count`` windows around firings of the nearest features in which the feature is silent.

    Neighbours by decoder cosine and by co-activation take turns, nearest first, a few windows each
    (``PER_NEIGHBOUR``), more where that is not enough.  ``group`` tells the neighbour, the measure
    and its value: ``"neighbour 17 cosine 0.83"``.  Without any neighbour there are none.
    """
    rng = generator(feature, split, seed + 3_000_017)
    slots = sampler.slots(feature, split, count, like, rng)
    neighbours = nearest_features(sampler, feature)
    for most, each in zip(NEIGHBOUR_FIRINGS, (PER_NEIGHBOUR, count), strict=True):
        for neighbour, group in neighbours:
            if not slots.empty():
                break
            postings = FeatureText(sampler.reader, sampler.store, neighbour, most).of_split(split)
            shuffled = rng.permutation(postings.positions)
            _offer(sampler, slots, split, shuffled, group, each)
    return slots.filled()


def nearest_features(sampler: Sampler, feature: int) -> list[tuple[int, str]]:
    """(neighbour, measure and value in words), nearest first, cosine and Jaccard in turn."""
    evidence = sampler.reader.evidence(feature)
    lists = (("cosine", evidence.cosine_neighbours), ("jaccard", evidence.coactive_neighbours))
    named = (
        [(n.feature, f"neighbour {n.feature} {name} {n.value:.2f}") for n in found if n.value > 0]
        for name, found in lists
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
    ids, firings = np.unique(sampler.store.tokens[elsewhere.positions], return_counts=True)
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
    group: str | None = None,
    most: int | None = None,
) -> None:
    """Fills slots with windows around ``middles``, in order; ``most`` of them at most."""
    middles, rows = _allowed(sampler, split, middles)
    wanted = len(slots.empty()) if most is None else most
    for turn in range(_PASSES):
        empty = slots.empty()
        if not empty or wanted <= 0 or len(middles) == 0:
            return
        # Slot by slot in turn; those that do not fit this time are tried for the next slot.
        turns = (np.arange(len(middles)) + turn) % len(empty)
        groups = None if group is None else [group] * len(middles)
        taken = slots.fill(np.array(empty)[turns], middles, rows, groups, wanted)
        wanted -= len(taken)
        left = np.ones(len(middles), np.bool_)
        left[taken] = False
        middles, rows = middles[left], rows[left]


def _allowed(sampler: Sampler, split: int, positions: Ints) -> tuple[Ints, Ints]:
    """(positions, rows) of those positions that lie in indexed rows of the split."""
    store, indexed = sampler.store, sampler.reader.rows
    rows = np.searchsorted(sampler.row_start, positions, side="right") - 1
    place = np.minimum(np.searchsorted(indexed, rows), len(indexed) - 1)
    documents = np.asarray(store.row_document)[rows]
    splits = explanation_split(np.asarray(store.document_hash)[documents])
    inside = (indexed[place] == rows) & (splits == split)
    return positions[inside], rows[inside]
