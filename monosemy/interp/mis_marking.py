"""Pairs of activating windows for fuzzing: the right tokens marked in one, wrong ones in the other.

What the marks look like must not give them away.  So each window with wrong marks borrows the
places of its marks from a donor, a window with right ones, and is cut out of its row such that the
feature is silent at exactly those places, while a token on which it does fire stands elsewhere in
it.  Every donor lends once: how many marks there are, and where, is the same in both classes.  The
right windows lie around their peak at random, or no room for other marks would be left.

(Paulo et al., arXiv 2410.13928, section 4, ask for wrong marks in activating contexts; marking
silent contexts at fixed places, as is often done, can be told from the places alone.)  numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from monosemy.data.splits import TEST
from monosemy.index.examples import Example, Ints
from monosemy.index.sampling import Sampler
from monosemy.interp.shown import ShownExample

Show = Callable[[int, Sequence[Example]], list[ShownExample]]

_STARTS = 16
"""Places tried for a window before another text is taken."""


class MisMarker:
    """``pairs`` of the features of one index; all is deterministic by (feature, seed)."""

    def __init__(self, sampler: Sampler, show: Show) -> None:
        self._sampler, self._show = sampler, show

    def pairs(
        self, feature: int, count: int, seed: int, n_strata: int
    ) -> list[tuple[ShownExample, ShownExample]]:
        """Up to ``count`` (right, wrong) pairs out of the scoring split, no text twice.

        Fewer where the feature has too few texts, or fires too densely in them for wrong marks to
        fit.
        """
        examples = self._sampler.examples(feature, TEST, 2 * count, seed, n_strata=n_strata)
        rng = np.random.default_rng([feature, seed % 2**32, 0x4D4D])
        donors, others = _halves(examples, rng)
        pairs: list[tuple[ShownExample, ShownExample]] = []
        waiting = list(others)
        for donor in donors:
            right = self._right(feature, donor, rng)
            if right is None:
                continue
            for place, other in enumerate(waiting):
                wrong = self._wrong(feature, other, right, rng)
                if wrong is not None:
                    pairs.append((right, wrong))
                    del waiting[place]
                    break
        return pairs

    def _right(
        self, feature: int, example: Example, rng: np.random.Generator
    ) -> ShownExample | None:
        """The text with its peak anywhere in the window."""
        length = min(2 * self._sampler.reader.window + 1, self._room(example))
        for start in self._starts(example, length, rng):
            (shown,) = self._show(feature, [self._cut(feature, example, start, length)])
            shown = replace(shown, marks=shown.marked_pieces())
            if _visible(shown):
                return shown
        return None

    def _wrong(
        self, feature: int, example: Example, donor: ShownExample, rng: np.random.Generator
    ) -> ShownExample | None:
        """A window of ``example`` that holds its peak, marked where ``donor`` is, if there is one
        that is silent there."""
        assert donor.marks is not None
        length, places = len(donor.pieces), np.flatnonzero(donor.marks)
        text = self._sampler.text_of(feature)
        for start in self._starts(example, length, rng):
            marked = start + places
            if not text.silent(marked, marked + 1).all():
                continue
            (shown,) = self._show(feature, [self._cut(feature, example, start, length)])
            shown = replace(shown, marks=donor.marks)
            if _visible(shown):
                return shown
        return None

    def _room(self, example: Example) -> int:
        first, last = self._sampler.row_start[example.row : example.row + 2]
        return int(last - first)

    def _starts(self, example: Example, length: int, rng: np.random.Generator) -> Iterator[int]:
        """Starts of windows of ``length`` that hold the example's token, in random order."""
        first, last = self._sampler.row_start[example.row : example.row + 2].tolist()
        low, high = max(first, example.position - length + 1), min(example.position, last - length)
        if low <= high:
            yield from rng.permutation(np.arange(low, high + 1))[:_STARTS].tolist()

    def _cut(self, feature: int, example: Example, start: int, length: int) -> Example:
        """The same token in another window of its row."""
        firings = self._sampler.text_of(feature).firings
        begin, end = (
            int(part[0]) for part in firings.between(np.array([start]), np.array([start + length]))
        )
        places: Ints = np.asarray(firings.positions[begin:end], np.int64) - start
        values = firings.values(np.arange(begin, end))
        return replace(
            example,
            start=start,
            end=start + length,
            offsets=tuple(places.tolist()),
            values=tuple(values.tolist()),
        )


def _halves(
    examples: Sequence[Example], rng: np.random.Generator
) -> tuple[list[Example], list[Example]]:
    """Two random halves, each with as many of every stratum as the other, within one."""
    halves: tuple[list[Example], list[Example]] = ([], [])
    groups: dict[str | int, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.group, []).append(example)
    turn = 0
    for members in groups.values():
        for place in rng.permutation(len(members)).tolist():
            halves[turn % 2].append(members[place])
            turn += 1
    return halves


def _visible(shown: ShownExample) -> bool:
    """Whether every mark is on text of its own: a character's later tokens have none."""
    assert shown.marks is not None
    return any(shown.marks) and all(
        piece.strip("\ufffd") for piece, mark in zip(shown.pieces, shown.marks, strict=True) if mark
    )
