"""Sources of activations that are no host model: numbered tokens, and a planted dictionary."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor


class ArraySource:
    """Rows of a given length cut out of one array of activations."""

    def __init__(self, acts_ND: Tensor, row_start: np.ndarray) -> None:
        self.acts, self.row_start = acts_ND, row_start
        self.width = acts_ND.shape[1]
        self.read_rows: list[int] = []
        self.flushed = 0

    def rows(self, rows: np.ndarray) -> tuple[Tensor, np.ndarray]:
        self.read_rows.extend(int(row) for row in rows)
        spans = [np.arange(self.row_start[row], self.row_start[row + 1]) for row in rows]
        positions = np.concatenate(spans)
        return self.acts[torch.from_numpy(positions)], positions

    def flush(self) -> None:
        self.flushed += 1


def numbered_source(lengths: list[int], width: int = 3) -> ArraySource:
    """Token ``i`` is ``[i + 1, 1, 1, ...]``, exact in float32."""
    row_start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    acts = torch.ones(int(row_start[-1]), width)
    acts[:, 0] = torch.arange(1, len(acts) + 1)
    return ArraySource(acts, row_start)


def planted(
    tokens: int = 20_000, d: int = 24, atoms: int = 40, active: int = 3, row: int = 50
) -> tuple[ArraySource, Any, Tensor]:
    """Sparse positive combinations of random unit vectors about an offset; (source, store, atoms).

    The store has what training reads: rows and which of them are for training (all but a tenth).
    """
    generator = torch.Generator().manual_seed(7)
    directions = torch.nn.functional.normalize(torch.randn(atoms, d, generator=generator), dim=1)
    chosen = torch.rand(tokens, atoms, generator=generator).topk(active, dim=1).indices
    strength = 1 + torch.rand(tokens, active, generator=generator)
    codes = torch.zeros(tokens, atoms).scatter_(1, chosen, strength)
    acts = codes @ directions + 3.0 * torch.randn(d, generator=generator)
    row_start = np.arange(0, tokens + 1, row, dtype=np.int64)
    n_rows = len(row_start) - 1
    store = SimpleNamespace(
        text_id="planted",
        row_start=row_start,
        row_sequence=None,
        training_rows=lambda: np.arange(n_rows)[np.arange(n_rows) % 10 != 0],
        heldout_rows=lambda: np.arange(0, n_rows, 10),
    )
    return ArraySource(acts, row_start), store, directions
