"""Which rows the host model reads together, decided once all lengths are known.  numpy only.

A row of the token store is always a run of tokens of one document.  A *sequence* is what one line
of a forward holds: several rows where documents are packed.  Rows of held-out documents and of
others never share a sequence.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Rows(NamedTuple):
    """Rows in the order of the text, and the sequence of each."""

    start: Ints
    """Flat position of each row's first token, and the end of the last, [n_rows + 1]."""
    document: Ints
    sequence: Ints


def packed_rows(lengths: Ints, heldout: Bools, capacity: int) -> Rows:
    """Documents concatenated and cut every ``capacity`` tokens, each split by itself.

    ``lengths`` and ``heldout`` are per document.  A row ends where its document or its sequence
    does; only the last sequence of each split is not full.
    """
    begin = np.empty(len(lengths), dtype=np.int64)
    base = 0
    for split in (False, True):
        chosen = np.flatnonzero(heldout == split)
        ends = np.cumsum(lengths[chosen])
        begin[chosen] = base + ends - lengths[chosen]
        if len(chosen):
            base += -(-int(ends[-1]) // capacity) * capacity
    first = begin // capacity
    pieces = (begin + lengths - 1) // capacity - first + 1
    document = np.repeat(np.arange(len(lengths)), pieces)
    nth = np.arange(len(document)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    sequence = first[document] + nth
    place = np.maximum(begin[document], sequence * capacity)
    end = np.minimum((begin + lengths)[document], (sequence + 1) * capacity)
    return Rows(np.concatenate([[0], np.cumsum(end - place)]), document, sequence)


def block_sequences(sizes: Ints, heldout: Bools, capacity: int) -> Ints:
    """The sequence of each row, so that few sequences hold all rows whole; each split by itself.

    ``sizes`` (at most ``capacity``, a prepended BOS included) and ``heldout`` are per row.
    Best-fit decreasing: every row goes where it leaves the least room.
    """
    sequence = np.empty(len(sizes), dtype=np.int64)
    count = 0
    for split in (False, True):
        chosen = np.flatnonzero(heldout == split)
        room: dict[int, list[int]] = {}
        there = 0  # bit r is set while a sequence has r tokens of room: the best fit is one shift
        for row in chosen[np.argsort(-sizes[chosen], kind="stable")].tolist():
            size = int(sizes[row])
            fitting = there >> size
            if fitting:
                left = size + (fitting & -fitting).bit_length() - 1
                number = room[left].pop()
                if not room[left]:
                    there &= ~(1 << left)
            else:
                left, number = capacity, count
                count += 1
            sequence[row] = number
            if left > size:
                room.setdefault(left - size, []).append(number)
                there |= 1 << (left - size)
    return sequence


def groups(labels: npt.NDArray[Any]) -> tuple[Ints, Ints]:
    """``(order, start)``: ``order[start[g]:start[g + 1]]`` are the places of label g, ascending."""
    order = np.argsort(labels, kind="stable").astype(np.int64)
    counts = np.bincount(labels) if len(labels) else np.zeros(0, dtype=np.int64)
    return order, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
