"""Who takes part in a training run, and who does what: one process, or several of equal standing.

Each process reads its own share of the text through its own host model and buffer.  What a step
needs of the other processes goes through the SAE's ``StepGroup`` (``distributed``); what the run
needs (one set of statistics to start from, one step to save and to stop at, one SAE at the end)
goes through its ``RunGroup``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import SAESpec, TrainingSpec
from monosemy.training.distributed import Replicas, Shards, all_reduced, gathered


class RunGroup:
    """A process alone.  Every method but those of ``rank`` is called by all, in the same order."""

    rank = 0
    processes = 1

    def rows(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """This process's share of the text."""
        return rows

    def share(self, training: TrainingSpec) -> TrainingSpec:
        """Batch and buffer of this process's own stream."""
        return training

    def batch(self, own_NW: Tensor) -> Tensor:
        """The tokens this process trains on, out of its own and maybe the others'."""
        return own_NW

    def gathered(self, own_NW: Tensor) -> Tensor:
        """The rows of all processes."""
        return own_NW

    def mean(self, value: Tensor) -> Tensor:
        """Over processes, without a graph."""
        return value

    def total(self, value: int) -> int:
        return value

    def least(self, value: int) -> int:
        return value

    def any(self, *flags: bool) -> list[bool]:
        """Per flag, whether it is set in any process."""
        return list(flags)

    def stop_asked(self) -> bool:
        """Whether the run is to be interrupted at this step; a process alone asks its reporter."""
        return False

    def create(
        self, spec: SAESpec, d_in: int, d_out: int | None, generator: torch.Generator
    ) -> SAE:
        """This process's SAE, initialised: the whole or a part of what one process would have."""
        sae = create(spec, d_in, d_out)
        sae.initialise(generator)
        return sae

    def whole_sae(self, sae: SAE, spec: SAESpec) -> SAE:  # noqa: ARG002
        """The SAE of ``spec`` out of what ``create`` gave, on the CPU."""
        return sae.cpu()

    def whole_density(self, density_F: Tensor) -> Tensor:
        return density_F


class _Processes(RunGroup):
    def __init__(self, stop_asked: Callable[[], bool] = lambda: False) -> None:
        """``stop_asked`` is polled at every step; one process that sees it is enough."""
        self.rank, self.processes = dist.get_rank(), dist.get_world_size()
        self._stop_asked = stop_asked

    def rows(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return rows[self.rank :: self.processes]

    def share(self, training: TrainingSpec) -> TrainingSpec:
        sizes = ("batch_tokens", "buffer_tokens")
        return training.model_copy(
            update={name: max(1, getattr(training, name) // self.processes) for name in sizes}
        )

    def gathered(self, own_NW: Tensor) -> Tensor:
        return gathered(own_NW)

    def mean(self, value: Tensor) -> Tensor:
        return all_reduced(value, dist.ReduceOp.SUM) / self.processes

    def total(self, value: int) -> int:
        return int(all_reduced(torch.tensor(value), dist.ReduceOp.SUM))

    def least(self, value: int) -> int:
        return int(all_reduced(torch.tensor(value), dist.ReduceOp.MIN))

    def any(self, *flags: bool) -> list[bool]:
        # On the CPU: asking there does not wait for the device.
        return [
            bool(flag)
            for flag in all_reduced(torch.tensor(flags, dtype=torch.int32), dist.ReduceOp.MAX)
        ]

    def stop_asked(self) -> bool:
        return self._stop_asked()


class BatchGroup(_Processes):
    """Every process holds the whole SAE and trains it on its share of each batch."""

    def create(
        self, spec: SAESpec, d_in: int, d_out: int | None, generator: torch.Generator
    ) -> SAE:
        sae = super().create(spec, d_in, d_out, generator)
        sae.group = Replicas()
        return sae


class DictionaryGroup(_Processes):
    """Every process holds a part of the latents and trains it on the batches of all."""

    def batch(self, own_NW: Tensor) -> Tensor:
        return gathered(own_NW)

    def create(
        self, spec: SAESpec, d_in: int, d_out: int | None, generator: torch.Generator
    ) -> SAE:
        whole = super().create(spec, d_in, d_out, generator)
        width = spec.d_sae // self.processes
        own = slice(self.rank * width, (self.rank + 1) * width)
        part = create(spec.model_copy(update={"d_sae": width}), d_in, d_out)
        with torch.no_grad():
            part.W_enc.copy_(whole.W_enc[:, own])
            part.b_enc.copy_(whole.b_enc[own])
            part.W_dec.copy_(whole.W_dec[own])
            part.b_dec.copy_(whole.b_dec)
        part.group = Shards(part.b_dec)
        return part

    def whole_sae(self, sae: SAE, spec: SAESpec) -> SAE:
        result = create(spec, sae.d_in, sae.d_out if sae.transcodes else None)
        with torch.no_grad():
            result.W_enc.copy_(gathered(sae.W_enc.T).T)
            result.b_enc.copy_(gathered(sae.b_enc))
            result.W_dec.copy_(gathered(sae.W_dec))
            result.b_dec.copy_(sae.b_dec)
        return result.requires_grad_(False)

    def whole_density(self, density_F: Tensor) -> Tensor:
        return gathered(density_F)


ALONE = RunGroup()


@contextmanager
def joined(
    training: TrainingSpec,
    device: torch.device,
    stop_asked: Callable[[], bool] = lambda: False,
) -> Iterator[RunGroup]:
    """The group of the processes that torchrun started (``RANK``, ``WORLD_SIZE`` and so on in the
    environment), joined for as long as the context lasts; ``ALONE`` where this is the only one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        kind = BatchGroup if training.split == "batch" else DictionaryGroup
        yield kind(stop_asked)
    finally:
        dist.destroy_process_group()
