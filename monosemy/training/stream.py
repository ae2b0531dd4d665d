"""Shuffled activations: a ring buffer of tokens between host model and trainer.

The buffer is filled, then served in random order; whenever half of it has been served, the served
slots are filled in place with new tokens and the order is drawn anew.  Every token that enters
leaves exactly once.  Rows are visited in an order that depends on seed and epoch alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.errors import DataError


class RowSource(Protocol):
    """What the stream needs of ``models.activations.ActivationSource``."""

    @property
    def width(self) -> int: ...

    def rows(self, rows: npt.NDArray[np.int64]) -> tuple[Tensor, npt.NDArray[np.int64]]: ...

    def flush(self) -> None: ...


@dataclass(frozen=True)
class StreamSettings:
    batch_tokens: int
    buffer_tokens: int
    host_rows: int
    seed: int
    max_norm_ratio: float | None


class ActivationStream:
    """Endless batches ``[batch_tokens, width]`` (float32, CPU) over the given rows.

    Tokens whose norm exceeds ``max_norm`` (``max_norm_ratio`` times the median norm of the first
    fill) are left out and counted in ``outliers``.  Raises ``DataError`` when there is no text.
    """

    def __init__(
        self, source: RowSource, rows: npt.NDArray[np.int64], settings: StreamSettings
    ) -> None:
        if len(rows) == 0:
            raise DataError(
                "There is no text to train on: every document is held out.",
                "Give more text or a smaller text.heldout_fraction.",
            )
        self.source = source
        self.all_rows = np.asarray(rows, dtype=np.int64)
        self.settings = settings
        capacity = max(settings.buffer_tokens, 2 * settings.batch_tokens)
        self.buffer = torch.zeros(capacity, source.width)
        self.order = torch.zeros(0, dtype=torch.int64)
        self.served = 0
        self.pending = torch.zeros(0, source.width)
        self.epoch = 0
        self.next_row = 0
        self.outliers = 0
        self.max_norm: float | None = None
        self.on_read: Callable[[int], None] | None = None
        """Told how many tokens each read brought: the first fill takes a while."""
        self.generator = torch.Generator().manual_seed(settings.seed)
        self._permutation = self._permute(0)

    def next_batch(self) -> Tensor:
        """The next batch; the first call fills the buffer."""
        if len(self.order) == 0:
            self._fill_first()
        size = self.settings.batch_tokens
        if self.served + size > len(self.order) or self.served >= len(self.order) // 2:
            self._refill()
        batch = self.buffer[self.order[self.served : self.served + size]]
        self.served += size
        return batch

    def first_fill(self) -> Tensor:
        """The whole buffer as it first stands, to initialise from; ``[capacity, width]``."""
        if len(self.order) == 0:
            self._fill_first()
        return self.buffer

    def _fill_first(self) -> None:
        if self.settings.max_norm_ratio is not None:
            sample = self._read(len(self.buffer))
            norms = sample.norm(dim=1)
            self.max_norm = float(norms.median()) * self.settings.max_norm_ratio
            self.pending = torch.cat([self._without_outliers(sample), self.pending])
        self._refill()

    def _refill(self) -> None:
        """Fills the served slots in place (all of them at first) and draws a new order."""
        started = len(self.order) > 0
        slots = self.order[: self.served] if started else torch.arange(len(self.buffer))
        if len(slots):
            self.buffer[slots] = self._read(len(slots))
        self.order = torch.randperm(len(self.buffer), generator=self.generator)
        self.served = 0

    def _read(self, count: int) -> Tensor:
        """The next ``count`` tokens in arrival order; what a row has beyond that is kept."""
        parts, have = [self.pending], len(self.pending)
        fruitless = 0
        while have < count:
            acts, _ = self.source.rows(self._next_rows())
            acts = self._without_outliers(acts.float().cpu())
            fruitless = 0 if len(acts) else fruitless + 1
            if fruitless > len(self.all_rows):
                raise DataError("No token of the text may be trained on: all are norm outliers.")
            parts.append(acts)
            have += len(acts)
            if self.on_read is not None:
                self.on_read(len(acts))
        tokens = torch.cat(parts)
        self.pending = tokens[count:].clone()
        return tokens[:count]

    def _without_outliers(self, acts: Tensor) -> Tensor:
        if self.max_norm is None:
            return acts
        keep = acts.norm(dim=1) <= self.max_norm
        self.outliers += int((~keep).sum())
        return acts[keep]

    def _next_rows(self) -> npt.NDArray[np.int64]:
        if self.next_row >= len(self._permutation):
            self.epoch += 1
            self.next_row = 0
            self._permutation = self._permute(self.epoch)
        rows = self._permutation[self.next_row : self.next_row + self.settings.host_rows]
        self.next_row += len(rows)
        return rows

    def _permute(self, epoch: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng([self.settings.seed, epoch]).permutation(self.all_rows)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that decides what comes next: tensors and JSON-able values."""
        tensors = {
            "buffer": _lossless(self.buffer),
            "order": self.order,
            "pending": _lossless(self.pending),
            "generator": self.generator.get_state(),
        }
        values = {
            "served": self.served,
            "epoch": self.epoch,
            "next_row": self.next_row,
            "outliers": self.outliers,
            "max_norm": self.max_norm,
        }
        return tensors, values

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Continues exactly where ``state`` was taken; ``DataError`` if it fits another buffer."""
        if tensors["buffer"].shape != self.buffer.shape:
            raise DataError("The checkpoint's activation buffer has another size.")
        self.buffer = tensors["buffer"].float()
        self.order = tensors["order"].clone()
        self.pending = tensors["pending"].float()
        self.generator.set_state(tensors["generator"].clone())
        self.served = values["served"]
        self.epoch = values["epoch"]
        self.next_row = values["next_row"]
        self.outliers = values["outliers"]
        self.max_norm = values["max_norm"]
        self._permutation = self._permute(self.epoch)


def _lossless(tensor: Tensor) -> Tensor:
    """As bfloat16 if that holds every value, which it does for a bfloat16 host or cache."""
    half = tensor.bfloat16()
    return half if torch.equal(half.float(), tensor) else tensor
