"""Batches of targets on several devices beside one another.

A batch is the same work wherever it is done, and its rows take their place by its number, so that a
graph is the same whatever the number of devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeVar

import torch

from monosemy.errors import DataError
from monosemy.graphs.prompt import ReplacedPrompt
from monosemy.graphs.sources import EdgeRows
from monosemy.graphs.transposed import Target, TransposedPass

R = TypeVar("R")


class SideBySide:
    """Passes of one prompt as each device has read it; on CPU all may share one reading."""

    def __init__(self, prompts: Sequence[ReplacedPrompt]) -> None:
        """Raises ``DataError`` where devices do not agree about which features are active."""
        for other in prompts[1:]:
            _check_alike(prompts[0], other)
        self.first = TransposedPass(prompts[0])
        self._free: SimpleQueue[TransposedPass] = SimpleQueue()
        self._free.put(self.first)
        for other in prompts[1:]:
            self._free.put(TransposedPass(other))
        self.count = len(prompts)

    def rows(
        self, batches: Sequence[Sequence[Target]], kept: Callable[[EdgeRows], R]
    ) -> Iterator[R]:
        """What is ``kept`` of the edges of each batch, in their order.  Of as many batches as there
        are devices the dense rows are held at once."""
        if self.count == 1:
            yield from (kept(self.first.rows(batch)) for batch in batches)
            return
        with ThreadPoolExecutor(self.count, thread_name_prefix="graph") as pool:
            jobs = [pool.submit(self._kept, batch, kept) for batch in batches]
            try:
                yield from (job.result() for job in jobs)
            finally:
                pool.shutdown(cancel_futures=True)

    def _kept(self, batch: Sequence[Target], kept: Callable[[EdgeRows], R]) -> R:
        with self._device() as passes:
            return kept(passes.rows(batch))

    @contextmanager
    def _device(self) -> Iterator[TransposedPass]:
        passes = self._free.get()
        try:
            yield passes
        finally:
            self._free.put(passes)


def _check_alike(one: ReplacedPrompt, other: ReplacedPrompt) -> None:
    if one is other:
        return
    ours, theirs = one.features, other.features
    columns = ("coder_N", "layer_N", "position_N", "latent_N")
    alike = one.ids_T == other.ids_T and len(ours) == len(theirs)
    alike = alike and all(
        torch.equal(getattr(ours, name).cpu(), getattr(theirs, name).cpu()) for name in columns
    )
    if not alike:
        raise DataError(
            f"Devices do not agree about which features are active: {len(ours)} on the first, "
            f"{len(theirs)} on another.",
            "Trace on one device (trace.devices: 1), or on cards of one kind.",
        )
