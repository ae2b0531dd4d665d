"""Places for windows in which a feature is silent, filled from candidates of any kind.  numpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from monosemy.index.examples import NEGATIVE, Example, Ints
from monosemy.index.feature_text import FeatureText
from monosemy.index.near_duplicates import SeenWindows

if TYPE_CHECKING:
    from monosemy.data.store import TokenStore


class NegativeSlots:
    """``shapes`` [count, 2]: tokens before and from the middle on of each wanted window.

    What is put in has the slot's shape, lies in a row of its own outside ``used_rows``, holds no
    firing, is no near-duplicate of what ``seen`` holds, and at most ``per_document`` share a
    document.
    """

    def __init__(
        self,
        store: TokenStore,
        text: FeatureText,
        shapes: Ints,
        seen: SeenWindows,
        used_rows: set[int],
        per_document: int,
    ) -> None:
        self.shapes = shapes
        self._store, self._text, self._seen = store, text, seen
        self._rows = set(used_rows)
        self._documents: Counter[int] = Counter()
        self._groups: Counter[str] = Counter()
        self._per_document = per_document
        self._slots: list[Example | None] = [None] * len(shapes)

    def empty(self) -> list[int]:
        """Numbers of the slots that are still empty."""
        return [i for i, example in enumerate(self._slots) if example is None]

    def filled(self) -> list[Example]:
        """The negatives found, in the order of the slots."""
        return [example for example in self._slots if example is not None]

    def fill(
        self,
        slots: Ints,
        middles: Ints,
        rows: Ints,
        groups: Sequence[str] | None = None,
        most: int | None = None,
    ) -> list[int]:
        """Tries window i (around ``middles[i]``, in ``rows[i]``) for slot ``slots[i]``, in order.

        ``groups`` names where each came from; ``most`` of a group are taken at most, earlier calls
        included.  Returns which of the windows were taken.
        """
        starts = middles - self.shapes[slots, 0]
        ends = middles + self.shapes[slots, 1]
        row_start = np.asarray(self._store.row_start)
        fits = (starts >= row_start[rows]) & (ends <= row_start[rows + 1])
        fits[fits] = self._text.silent(starts[fits], ends[fits])
        # What cannot be taken in any case is not compared with anything.
        fits &= [row not in self._rows for row in rows.tolist()]
        if groups is not None and most is not None:
            fits &= [self._groups[group] < most for group in groups]
        fitting = np.flatnonzero(fits)
        documents = np.asarray(self._store.row_document)[rows[fitting]].tolist()
        batch = self._seen.batch(starts[fitting], ends[fitting])
        taken: list[int] = []
        for number, (i, document) in enumerate(zip(fitting.tolist(), documents, strict=True)):
            group = NEGATIVE if groups is None else groups[i]
            if most is not None and self._groups[group] >= most:
                continue
            slot, row, start, end = int(slots[i]), int(rows[i]), int(starts[i]), int(ends[i])
            crowded = self._documents[document] >= self._per_document
            if self._slots[slot] is not None or row in self._rows or crowded:
                continue
            if not batch.take(number):
                continue
            self._rows.add(row)
            self._documents[document] += 1
            self._groups[group] += 1
            place = int(middles[i])
            self._slots[slot] = Example(row, document, place, group, start, end, (), ())
            taken.append(i)
        batch.close()
        return taken
