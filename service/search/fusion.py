"""Reciprocal rank fusion (Cormack, Clarke, Buettcher 2009): lists are joined by rank alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

K = 60
"""As in the paper: large enough that no single first place outweighs two good ones."""


@dataclass(frozen=True)
class Fused(Generic[Key]):
    key: Key
    score: float
    lists: tuple[str, ...]
    """Names of the lists that hold it."""


def fuse(lists: Mapping[str, Sequence[Key]], k: int = K) -> list[Fused[Key]]:
    """The keys of all lists (each best first), best first.

    A key's score is the sum over the lists of 1 / (k + rank), rank counted from 1; its first place
    in a list counts.  Equal scores keep the order in which the keys were met.
    """
    scores: dict[Key, float] = {}
    lists_of: dict[Key, list[str]] = {}
    for name, keys in lists.items():
        for rank, key in enumerate(dict.fromkeys(keys), start=1):
            scores[key] = scores.get(key, 0.0) + 1 / (k + rank)
            lists_of.setdefault(key, []).append(name)
    ordered = sorted(scores, key=lambda key: -scores[key])
    return [Fused(key, scores[key], tuple(lists_of[key])) for key in ordered]
