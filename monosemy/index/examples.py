"""Which places of the text stand for a feature: the strongest ones and a spread over quantiles.

numpy only.  Everything here works on one feature's postings; "row" is a row of the token store,
"position" a flat position in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from monosemy.index.ordering import Ints, first_occurrences, occurrence_number, stable_order

Floats = npt.NDArray[np.float32]
ArePeaks = Callable[[Ints], npt.NDArray[np.bool_]]
"""Which of some indices of postings are the strongest of their own windows."""

TOP = "top"
NEGATIVE = "negative"

_HEAD = 16
"""Candidates tried per example before all are."""


@dataclass(frozen=True)
class Example:
    """A window of the token store, with the activations of one feature in it.

    The shown tokens are ``store.tokens[start:end]``; they never leave their row.
    """

    row: int
    """Row of the token store."""
    document: int
    """Document of that row."""
    position: int
    """Flat position of the token the example is about (its peak; a negative's middle)."""
    group: str | int
    """``"top"``, the quantile (0 weakest), ``"negative"``, or where a hard negative is from."""
    start: int
    """Flat position of the first shown token."""
    end: int
    """One past the last shown token."""
    offsets: tuple[int, ...]
    """Tokens of the window on which the feature fires, counted from ``start``, ascending."""
    values: tuple[float, ...]
    """The activations there."""

    @property
    def activation(self) -> float:
        """Activation at ``position``; 0 for a negative."""
        peak = self.position - self.start
        return self.values[self.offsets.index(peak)] if peak in self.offsets else 0.0


@dataclass(frozen=True)
class Firings:
    """Every firing of one feature, by ascending position; may be views of mapped files.

    Activations are ``shares * largest``.  Only what is asked for is read and converted.
    """

    positions: npt.NDArray[np.integer]
    shares: npt.NDArray[np.floating]
    largest: float = 1.0

    def between(self, start: Ints, end: Ints) -> tuple[Ints, Ints]:
        """(low, high): the firings in positions ``[start, end)`` are those of ``[low, high)``."""
        # Of another type than the positions, the bounds would have numpy convert all of these.
        kind = self.positions.dtype
        low = np.searchsorted(self.positions, start.astype(kind))
        return low, np.searchsorted(self.positions, end.astype(kind))

    def values(self, which: Ints | slice) -> Floats:
        """Their activations, float32."""
        shares: Floats = self.shares[which].astype(np.float32)
        return shares * np.float32(self.largest)


@dataclass(frozen=True)
class FeaturePostings:
    """Firings of one feature, by ascending position; the four arrays have one length."""

    positions: Ints
    values: Floats
    rows: Ints
    documents: Ints
    whole: Firings | None = None
    """Every firing of the rows above, where the arrays hold only some of them."""
    places: Ints | None = None
    """Which of ``whole``'s firings each is; given with it."""

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def all(self) -> Firings:
        """What windows are filled from."""
        return self.whole or Firings(self.positions, self.values)

    def where(self, mask: npt.NDArray[np.bool_]) -> FeaturePostings:
        """The postings where ``mask`` is true, still ascending."""
        return FeaturePostings(
            self.positions[mask],
            self.values[mask],
            self.rows[mask],
            self.documents[mask],
            self.whole,
            None if self.places is None else self.places[mask],
        )


def select_examples(
    postings: FeaturePostings,
    row_start: Ints,
    *,
    top: int,
    quantiles: int,
    per_quantile: int,
    window: int,
    seed: int,
) -> list[Example]:
    """The examples of one feature: the top ones, then each quantile from weakest to strongest.

    Top: the strongest, no two from one document.  Quantiles: all postings are ranked and cut into
    ``quantiles`` strata of equal count (not equal width); ``per_quantile`` are drawn from each,
    deterministically by ``seed``.  No row is used twice, top ones included.  A drawn token is the
    strongest of its own window wherever the stratum has such tokens left.
    """
    ascending = rank(postings)
    chosen = strongest_per_document(postings, ascending, top)
    groups: list[str | int] = [TOP] * len(chosen)
    used = postings.rows[chosen]
    rng = np.random.default_rng(seed)

    def are_peaks(which: Ints) -> npt.NDArray[np.bool_]:
        return is_window_peak(postings, row_start, which, window)

    for number, stratum in enumerate(strata(ascending, quantiles)):
        (drawn,) = draw(postings, [stratum], per_quantile, are_peaks, rng, used)
        chosen = np.concatenate([chosen, drawn])
        used = np.concatenate([used, postings.rows[drawn]])
        groups += [number] * len(drawn)
    return make_examples(postings, row_start, chosen, groups, window)


def rank(postings: FeaturePostings) -> Ints:
    """Indices of the postings from weakest to strongest; among equals the earlier is stronger."""
    # Numbers above 0 are in the order of their bits.
    bits = postings.values.astype(np.float32).view(np.uint32)
    return stable_order(~bits, 2**32 - 1)[::-1]


def strata(ascending: Ints, quantiles: int) -> list[Ints]:
    """``ascending`` cut into ``quantiles`` pieces whose lengths differ by one at most."""
    edges = np.arange(quantiles + 1) * len(ascending) // quantiles
    return [ascending[a:b] for a, b in pairwise(edges)]


def strongest_per_document(postings: FeaturePostings, ascending: Ints, count: int) -> Ints:
    """Indices of the strongest postings, one per document, strongest first."""
    descending = ascending[::-1]
    # Most features find enough documents near the top: sort the documents of the rest only if not.
    for head in (8 * count, len(descending)):
        documents = postings.documents[descending[:head]]
        first = np.unique(documents, return_index=True)[1]
        if len(first) >= count or head >= len(descending):
            break
    return descending[np.sort(first)[:count]]


def draw(
    postings: FeaturePostings,
    layers: Sequence[Ints],
    count: int,
    are_peaks: ArePeaks,
    rng: np.random.Generator,
    used_rows: Ints | None = None,
    per_document: int | None = None,
) -> list[Ints]:
    """Of each layer (indices of postings) ``count`` at random, in distinct rows.

    No row is among ``used_rows``; ``per_document`` caps how many of a layer share a document.
    Tokens that are the strongest of their own window come first.  Fewer are returned where there
    are no more.
    """
    shuffled = [rng.permutation(layer) for layer in layers]
    head = _HEAD * count
    chosen = _first_fitting(
        postings, [part[:head] for part in shuffled], count, are_peaks, used_rows, per_document
    )
    for i, part in enumerate(shuffled):
        if len(chosen[i]) < count and len(part) > head:
            (chosen[i],) = _first_fitting(
                postings, [part], count, are_peaks, used_rows, per_document
            )
    return chosen


def _first_fitting(
    postings: FeaturePostings,
    parts: Sequence[Ints],
    count: int,
    are_peaks: ArePeaks,
    used_rows: Ints | None,
    per_document: int | None,
) -> list[Ints]:
    """The first ``count`` of each part that may be taken together; peaks before the others.

    All parts at once, each index beside the number of its part: they are small.
    """
    chosen = np.concatenate(parts)
    part = np.repeat(np.arange(len(parts)), [len(each) for each in parts])
    if used_rows is not None and len(used_rows):
        free = ~np.isin(postings.rows[chosen], used_rows)
        chosen, part = chosen[free], part[free]
    order = stable_order(2 * part + ~are_peaks(chosen), 2 * len(parts))
    chosen, part = chosen[order], part[order]
    kept = first_occurrences(_within(part, postings.rows[chosen]))
    if per_document is not None:
        chosen, part = chosen[kept], part[kept]
        number = occurrence_number(_within(part, postings.documents[chosen]))
        kept = np.flatnonzero(number < per_document)
    chosen, part = chosen[kept], part[kept]
    borders = np.searchsorted(part, np.arange(len(parts) + 1))
    return [chosen[a:b][:count] for a, b in pairwise(borders.tolist())]


def _within(part: Ints, keys: Ints) -> Ints:
    """Keys that differ from part to part."""
    return part * (int(keys.max(initial=0)) + 1) + keys


def window_bounds(
    positions: Ints, rows: Ints, row_start: Ints, window: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(start, end) of the windows: ``window`` tokens on each side, clipped to the row."""
    start = np.maximum(positions - window, row_start[rows])
    end = np.minimum(positions + window + 1, row_start[rows + 1])
    return start, end


def is_window_peak(
    postings: FeaturePostings, row_start: Ints, indices: Ints, window: int
) -> npt.NDArray[np.bool_]:
    """Whether each posting is the strongest of its own window."""
    start, end = window_bounds(
        postings.positions[indices], postings.rows[indices], row_start, window
    )
    firings = postings.all
    own = indices if postings.places is None else postings.places[indices]
    peaks = np.ones(len(indices), np.bool_)
    # From firing to firing, away from the token: most windows have few.
    for direction in (1, -1):
        active, at = np.arange(len(indices)), own
        while len(active):
            at = at + direction
            there = (at >= 0) & (at < len(firings.positions))
            active, at = active[there], at[there]
            place = firings.positions[at]
            inside = (place >= start[active]) & (place < end[active])
            active, at = active[inside], at[inside]
            lower = firings.shares[own[active]] < firings.shares[at]
            peaks[active[lower]] = False
            active, at = active[~lower], at[~lower]
    return peaks


def make_examples(
    postings: FeaturePostings,
    row_start: Ints,
    chosen: Ints,
    groups: Sequence[str | int],
    window: int,
) -> list[Example]:
    """Examples around the postings ``chosen``, in that order."""
    positions, rows = postings.positions[chosen], postings.rows[chosen]
    start, end = window_bounds(positions, rows, row_start, window)
    firings = postings.all
    low, high = firings.between(start, end)
    # Signed, or a difference of positions would wrap around.
    within = [firings.positions[a:b].astype(np.int64) for a, b in zip(low, high, strict=True)]
    return [
        Example(
            row=int(rows[i]),
            document=int(postings.documents[chosen[i]]),
            position=int(positions[i]),
            group=groups[i],
            start=int(start[i]),
            end=int(end[i]),
            offsets=tuple((within[i] - start[i]).tolist()),
            values=tuple(firings.values(slice(low[i], high[i])).tolist()),
        )
        for i in range(len(chosen))
    ]
