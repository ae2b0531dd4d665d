"""Orders, firsts and counts of integer keys, by 16-bit radix passes: numpy's fast path."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def stable_order(keys: npt.NDArray[np.integer], largest: int) -> Ints:
    """Stable argsort of keys in [0, largest]."""
    order = np.argsort((keys & 0xFFFF).astype(np.uint16), kind="stable")
    shift = 16
    while largest >> shift:
        digit = ((keys >> shift) & 0xFFFF).astype(np.uint16)
        order = order[np.argsort(digit[order], kind="stable")]
        shift += 16
    return order


def first_occurrences(keys: npt.NDArray[np.integer]) -> Ints:
    """Indices, ascending, at which a key (0 or more) is met for the first time."""
    order, new = _grouped(keys)
    first = np.zeros(len(keys), np.bool_)
    first[order[new]] = True
    return np.flatnonzero(first)


def occurrence_number(keys: npt.NDArray[np.integer]) -> Ints:
    """For each place how many earlier places hold the same key (0 or more)."""
    order, new = _grouped(keys)
    starts = np.flatnonzero(new)
    lengths = np.diff(starts, append=len(keys))
    numbers = np.empty(len(keys), np.int64)
    numbers[order] = np.arange(len(keys)) - np.repeat(starts, lengths)
    return numbers


def distinct(ordered: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """True where a value of an ascending array differs from the one before it."""
    new = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return new


def _grouped(keys: npt.NDArray[np.integer]) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """(stable order of the keys, where in it a new key starts)."""
    order = stable_order(keys, int(keys.max(initial=0)))
    return order, distinct(keys[order])
