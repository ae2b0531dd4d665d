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

        ``groups`` names where each came from.  Returns which of the windows were taken, ``most`` of
        them at most.
        """
        starts = middles - self.shapes[slots, 0]
        ends = middles + self.shapes[slots, 1]
        row_start = np.asarray(self._store.row_start)
        fits = (starts >= row_start[rows]) & (ends <= row_start[rows + 1])
        fits[fits] = self._text.silent(starts[fits], ends[fits])
        fitting = np.flatnonzero(fits)
        documents = np.asarray(self._store.row_document)[rows[fitting]].tolist()
        suspects = self._seen.suspects(starts[fitting], ends[fitting])
        taken: list[int] = []
        for i, document, suspect in zip(fitting.tolist(), documents, suspects, strict=True):
            if len(taken) == most:
                break
            slot, row, start, end = int(slots[i]), int(rows[i]), int(starts[i]), int(ends[i])
            crowded = self._documents[document] >= self._per_document
            if self._slots[slot] is not None or row in self._rows or crowded:
                continue
            if not self._seen.take(start, end, bool(suspect)):
                continue
            self._rows.add(row)
            self._documents[document] += 1
            group = NEGATIVE if groups is None else groups[i]
            place = int(middles[i])
            self._slots[slot] = Example(row, document, place, group, start, end, (), ())
            taken.append(i)
        return taken
