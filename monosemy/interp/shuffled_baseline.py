"""What a score must beat: the same judge, the same examples, another feature's explanation, or one
that says nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monosemy.errors import DataError

EMPTY_EXPLANATION = "(no explanation)"
"""Stands where the explanation would: the prompt is the same, so that only what the explanation
says differs.  A prompt with a hole in it would be another question."""


def shuffled_partner(features: Sequence[int], seed: int) -> dict[int, int]:
    """For every feature another one whose explanation it borrows; none keeps its own.

    One cycle through a seeded permutation, so each explanation is borrowed exactly once.  Raises
    ``DataError`` for fewer than two features or repeated ones.
    """
    if len(set(features)) != len(features):
        raise DataError("A feature is listed twice; the shuffled baseline needs distinct ones.")
    if len(features) < 2:
        raise DataError(
            "The shuffled baseline needs at least two explained features.",
            "Explain more features, or switch shuffled_baseline off.",
        )
    # Sorted first: the outcome depends on which features there are, not on their order.
    order = np.random.default_rng(seed).permutation(sorted(features)).tolist()
    return dict(zip(order, order[1:] + order[:1], strict=True))
