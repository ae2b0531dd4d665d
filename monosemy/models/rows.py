"""Rows of token ids for forwards of the host model: cut into batches, padded.  Needs torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

Ids = tuple[int, ...]
"""Token ids."""

LOGITS_AT_ONCE = 2**25
"""Logits (rows x positions x vocabulary) of one forward."""


def batches(rows: Sequence[Sequence[int]], width: int, at_once: int) -> Iterator[slice]:
    """Cuts rows, in their order, so that no batch (padded) has more than ``at_once`` logits.

    A row that has more by itself is a batch of its own.
    """
    start = longest = 0
    for end, row in enumerate(rows):
        longest = max(longest, len(row))
        if end > start and (end + 1 - start) * longest * width > at_once:
            yield slice(start, end)
            start, longest = end, len(row)
    if start < len(rows):
        yield slice(start, len(rows))


def padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """``ids_BS`` and ``mask_BS`` (both int64) of rows padded on the right."""
    longest = max(len(row) for row in rows)
    ids_BS = torch.full((len(rows), longest), pad_id, dtype=torch.long)
    mask_BS = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        ids_BS[i, : len(row)] = torch.tensor(list(row), dtype=torch.long)
        mask_BS[i, : len(row)] = 1
    return ids_BS, mask_BS
