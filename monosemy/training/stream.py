"""Shuffled activations: a ring buffer of tokens between host model and trainer.

The buffer is filled, then served in random order; whenever half of it has been served, the served
slots are filled in place with new tokens and the order is drawn anew.  Every token that enters
leaves exactly once.  Rows are visited in an order that depends on seed and epoch alone.  Where it
is known how many tokens will be asked for, the buffer is drained at the end instead of filled for
nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.specs import TrainingSpec
from monosemy.training.buffer import DTYPES, ON_CPU, ActivationBuffer, Placement, lossless, norms


class RowSource(Protocol):
    """What training and evaluation need of ``models.activations.ActivationSource``."""

    @property
    def width(self) -> int: ...

    def rows(self, rows: npt.NDArray[np.int64]) -> tuple[Tensor, npt.NDArray[np.int64]]: ...

    def flush(self) -> None: ...


@runtime_checkable
class RawSource(RowSource, Protocol):
    """A source that can also give activations as they come, unwidened and where they are."""

    def raw_rows(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """``[n, width]`` of whole rows, in the order of ``rows``: on the host model's device in its
        dtype, or bfloat16 on the CPU where a cache has them."""
        ...


def raw_rows(source: RowSource, rows: npt.NDArray[np.int64]) -> Tensor:
    """The source's ``raw_rows``; of one that has none, its ``rows``."""
    return source.raw_rows(rows) if isinstance(source, RawSource) else source.rows(rows)[0]


@runtime_checkable
class HostedSource(RowSource, Protocol):
    """A source that knows the host model whose activations it gives."""

    def mlp_rows(self, site: str) -> Tensor:
        """What each neuron of an MLP adds at ``site``, ``[d_mlp, d_model]``."""
        ...


def mlp_rows(source: RowSource, site: str) -> Tensor:
    """The source's ``mlp_rows``; ``DataError`` of one that knows no host model."""
    if not isinstance(source, HostedSource):
        raise DataError("A decoder starts with an MLP's rows only where the host model is at hand.")
    return source.mlp_rows(site)


@dataclass
class _Cursor:
    """Where the stream stands in the text."""

    epoch: int
    next_row: int
    pending: Tensor
    """Tokens of the last rows read without a slot yet, ``[n, width]``, in the buffer's dtype."""
    outliers: int


class ActivationStream:
    """Endless batches ``[spec.batch_tokens, width]`` over the given rows, float32.

    ``placement`` says where the buffer lies, in which dtype, and where batches go (by default the
    CPU, in float32).  The order depends on none of that.

    ``capacity`` is the buffer's size in tokens, at least two batches; ``total`` how many tokens
    will be asked for, if that is known: none is read beyond them.  ``columns`` says which part
    of the width belongs to which site (all of it to one, by default).  Tokens whose norm at any
    site exceeds that site's ``max_norms`` (``spec.max_norm_ratio`` times the median norm of the
    first fill, ``mean`` of those of all processes) or is not finite are left out and counted.
    ``on_read`` is called with the tokens of
    each read; it may raise, and the stream is then where it was before that batch.  Raises
    ``DataError`` when there is no text.
    """

    def __init__(
        self,
        source: RowSource,
        rows: npt.NDArray[np.int64],
        spec: TrainingSpec,
        capacity: int | None = None,
        on_read: Callable[[int], None] | None = None,
        columns: Sequence[slice] | None = None,
        mean: Callable[[Tensor], Tensor] = lambda own: own,
        total: int | None = None,
        placement: Placement = ON_CPU,
    ) -> None:
        if len(rows) == 0:
            raise DataError(
                "There is no text to train on: every document is held out.",
                "Give more text or a smaller text.heldout_fraction.",
            )
        self.source = source
        self.all_rows = np.asarray(rows, dtype=np.int64)
        self.spec = spec
        self.on_read = on_read
        size = max(capacity or spec.buffer_tokens, 2 * spec.batch_tokens)
        self.buffer = ActivationBuffer(size, source.width, placement)
        self.order = torch.zeros(0, dtype=torch.int64)
        """Slots in the order they are served; empty before the first fill."""
        self.served = 0
        self.total = total
        self.given = 0
        """Tokens given out so far."""
        self.columns = list(columns or [slice(0, source.width)])
        self._mean = mean
        self.max_norms: list[float] | None = None
        """Per entry of ``columns``; None before the first fill, or where all tokens are kept."""
        self.generator = torch.Generator().manual_seed(spec.seed)
        self._cursor = _Cursor(0, 0, self.buffer.values.new_zeros(0, source.width), 0)
        self._permutation = self._permute(0)

    @property
    def outliers(self) -> int:
        """Tokens left out so far."""
        return self._cursor.outliers

    @property
    def filled(self) -> bool:
        """Whether the first fill is done."""
        return len(self.order) > 0

    def next_batch(self) -> Tensor:
        """The next batch; the first call fills the buffer."""
        self.fill()
        size = self.spec.batch_tokens
        left = len(self.order) - self.served
        if left < size or self.served >= len(self.order) // 2:
            slots = self.order[: self.served]
            if self.total is not None and self.given < self.total:
                slots = slots[: max(self.total - self.given - left, 0)]
            if len(slots):
                self._fill(slots)
                self._shuffle(torch.cat([slots, self.order[self.served :]]))
        batch = self.buffer.take(self.order[self.served : self.served + size])
        self.served += size
        self.given += size
        return batch

    def fill(self) -> None:
        """Fills the buffer if it never was, and sets ``max_norms`` from what comes in.

        Until the first batch is taken, ``buffer`` then holds nothing but tokens to come.
        """
        if self.filled:
            return
        before = _Cursor(**vars(self._cursor))
        try:
            self._fill(torch.arange(len(self.buffer)))
            if self.spec.max_norm_ratio is not None:
                self._replace_outliers(self.spec.max_norm_ratio)
        except BaseException:
            self.max_norms = None
            self._return_to(before)
            raise
        self._shuffle(torch.arange(len(self.buffer)))

    def _replace_outliers(self, ratio: float) -> None:
        of_slots = self.buffer.norms(self.columns)
        typical = of_slots.median(dim=0).values.cpu()
        self.max_norms = (self._mean(typical) * ratio).tolist()
        self._cursor.pending = self._without_outliers(self._cursor.pending)
        above = of_slots > torch.tensor(self.max_norms, device=of_slots.device)
        too_long = above.any(1).nonzero().squeeze(1).cpu()
        self._cursor.outliers += len(too_long)
        self._fill(too_long)

    def _shuffle(self, slots: Tensor) -> None:
        """Serves ``slots`` next, in random order."""
        self.order = slots[torch.randperm(len(slots), generator=self.generator)]
        self.served = 0

    def _fill(self, slots: Tensor) -> None:
        """Puts the next tokens into ``slots``; all or, if interrupted, as good as none."""
        before = _Cursor(**vars(self._cursor))
        filled = fruitless = 0
        try:
            while filled < len(slots):
                if not len(self._cursor.pending):
                    self._cursor.pending = self._read()
                tokens = self._cursor.pending[: len(slots) - filled]
                self.buffer.put(slots[filled : filled + len(tokens)], tokens)
                self._cursor.pending = self._cursor.pending[len(tokens) :]
                filled += len(tokens)
                fruitless = 0 if len(tokens) else fruitless + 1
                if fruitless > len(self.all_rows):
                    raise DataError("No token can be trained on: none has a usable norm.")
        except BaseException:
            self._return_to(before)
            raise

    def _return_to(self, cursor: _Cursor) -> None:
        self._cursor = cursor
        self._permutation = self._permute(cursor.epoch)

    def _read(self) -> Tensor:
        """The usable tokens of the next ``host_rows`` rows."""
        cursor = self._cursor
        if cursor.next_row >= len(self._permutation):
            cursor.epoch, cursor.next_row = cursor.epoch + 1, 0
            self._permutation = self._permute(cursor.epoch)
        rows = self._permutation[cursor.next_row : cursor.next_row + self.spec.host_rows]
        acts = raw_rows(self.source, rows)
        cursor.next_row += len(rows)
        if self.on_read is not None:
            self.on_read(len(acts))
        if acts.device.type == "cpu":  # on a GPU, what is left out need not cross
            acts = self.buffer.admitted(acts)
        return self.buffer.admitted(self._without_outliers(acts))

    def _without_outliers(self, acts: Tensor) -> Tensor:
        of_tokens = norms(acts, self.columns)
        keep = of_tokens.isfinite().all(1)
        if self.max_norms is not None:
            keep &= (of_tokens <= torch.tensor(self.max_norms, device=acts.device)).all(1)
        usable = keep.nonzero().squeeze(1)  # on a GPU the only wait of a read
        self._cursor.outliers += len(acts) - len(usable)
        return acts[usable]

    def _permute(self, epoch: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng([self.spec.seed, epoch]).permutation(self.all_rows)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that decides what comes next: tensors and JSON-able values."""
        tensors = {
            "buffer": self.buffer.saved(),
            "order": self.order,
            "pending": lossless(self._cursor.pending.cpu()),
            "generator": self.generator.get_state(),
        }
        values = {
            "buffer_dtype": str(self.buffer.values.dtype).removeprefix("torch."),
            "served": self.served,
            "given": self.given,
            "max_norms": self.max_norms,
            "epoch": self._cursor.epoch,
            "next_row": self._cursor.next_row,
            "outliers": self._cursor.outliers,
        }
        return tensors, values

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Continues exactly where ``state`` was taken; ``DataError`` if it fits another buffer."""
        if tensors["buffer"].shape != self.buffer.values.shape:
            raise DataError("The checkpoint's activation buffer has another size.")
        # Not what this machine would choose: the run goes on as it began.
        dtype = DTYPES[values.get("buffer_dtype", "float32")]
        self.buffer.restore(tensors["buffer"], dtype)
        self.order = tensors["order"].clone()
        self.generator.set_state(tensors["generator"].clone())
        self.served, self.given = values["served"], values["given"]
        self.max_norms = values["max_norms"]
        pending = self.buffer.admitted(tensors["pending"])
        self._return_to(_Cursor(values["epoch"], values["next_row"], pending, values["outliers"]))
