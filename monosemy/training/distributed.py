"""The process group of an SAE whose steps several processes take, over ``torch.distributed``.

Both kinds give what one process would: the same gradients, statistics and selections, up to the
order of float sums.

- ``Replicas``: every process holds the whole SAE and its own tokens of the batch.
- ``Shards``: every process holds a part of the latents and sees all tokens.  The k largest are
  chosen over all shards; what the shards decode is added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from monosemy.saes.step_group import StepGroup


class Replicas(StepGroup):
    """Processes with a copy of the SAE each and equally many tokens of the batch each."""

    def __init__(self) -> None:
        self.processes = dist.get_world_size()

    def variance(self, x_ND: Tensor) -> Tensor:
        # Two passes: a difference of sums of squares would cancel where the mean is large.
        centre_D = self.sum(x_ND.detach().mean(0)) / self.processes
        return self.sum((x_ND.detach() - centre_D).pow(2).sum()) / self.processes

    def mean(self, value: Tensor) -> Tensor:
        whole = self.sum(value) / self.processes
        return value + (whole - value.detach())

    def sum(self, value: Tensor) -> Tensor:
        return all_reduced(value, dist.ReduceOp.SUM)

    def least(self, value: Tensor) -> Tensor:
        return all_reduced(value, dist.ReduceOp.MIN)

    def chosen(self, values_E: Tensor, total: int) -> Tensor | None:
        """Exact; of equal values at the limit exactly as many as there is room for."""
        offered = values_E.detach().new_full((1, total), -torch.inf)
        offered[0, : len(values_E)] = values_E.detach()
        return _among_largest(offered, total)[0, : len(values_E)]

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        for parameter in parameters:
            if parameter.grad is None:  # a term without this parameter: the others may have it
                parameter.grad = torch.zeros_like(parameter)
            # W_enc's gradient is no contiguous tensor, which is what can be reduced; its
            # transpose is.
            grad = parameter.grad
            flat = grad if grad.is_contiguous() else grad.T.contiguous()
            dist.all_reduce(flat)
            flat /= self.processes
            if flat.data_ptr() != grad.data_ptr():
                grad.copy_(flat.T)

    def reported(self, names: Sequence[str], values: Tensor) -> Tensor:  # noqa: ARG002
        return self.sum(values) / self.processes


class Shards(StepGroup):
    """Processes with all tokens each and equally many of the latents each.

    ``whole`` is the parameter that every process holds entirely, ``b_dec``; its gradient is the
    same in all.
    """

    def __init__(self, whole: nn.Parameter) -> None:
        self.shards = dist.get_world_size()
        self.whole = whole
        self._dead = 0

    def chosen_of_each(self, values_NK: Tensor, k: int) -> Tensor | None:
        offered = values_NK.new_full((len(values_NK), k), -torch.inf)
        offered[:, : values_NK.shape[1]] = values_NK.detach()
        return _among_largest(offered, k)[:, : values_NK.shape[1]]

    def combined(self, part_ND: Tensor) -> Tensor:
        result: Tensor = _Combined.apply(part_ND)
        return result

    def spread(self, value: Tensor) -> Tensor:
        result: Tensor = _Spread.apply(value)
        return result

    def note_dead(self, dead: Tensor) -> None:
        count = torch.tensor(dead.numel(), device=dead.device)
        self._dead = int(all_reduced(count, dist.ReduceOp.SUM))

    def dead_count(self, dead: Tensor) -> int:  # noqa: ARG002
        return self._dead

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> None:
        """By the norm that the gradients of all shards have together."""
        zero = torch.zeros((), device=self.whole.device)
        split, common = zero, zero
        for parameter in parameters:
            square = zero if parameter.grad is None else parameter.grad.pow(2).sum()
            if parameter is self.whole:
                common = square
            else:
                split = split + square
        norm = (all_reduced(split, dist.ReduceOp.SUM) + common).sqrt()
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)

    def reported(self, names: Sequence[str], values: Tensor) -> Tensor:
        """Of what is counted per shard, L0 adds up; the other readings are equal or are shares."""
        total = all_reduced(values, dist.ReduceOp.SUM)
        parts = [1.0 if name == "l0" else 1.0 / self.shards for name in names]
        return total * torch.tensor(parts, device=values.device)


class _Combined(torch.autograd.Function):
    """A sum over processes, each of which goes on with it alike: its gradient is every part's."""

    @staticmethod
    def forward(_ctx: Any, part: Tensor) -> Tensor:
        return all_reduced(part, dist.ReduceOp.SUM)

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class _Spread(torch.autograd.Function):
    """What is equal in all processes and enters different parts: its gradient is their sum."""

    @staticmethod
    def forward(_ctx: Any, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        return all_reduced(grads[0], dist.ReduceOp.SUM)


def all_reduced(value: Tensor, operation: Any) -> Tensor:
    """A new tensor, without a graph."""
    result = value.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(result, operation)
    return result


def gathered(x_ND: Tensor) -> Tensor:
    """The rows of all processes, equally many in each, in the order of their numbers."""
    parts = [torch.empty_like(x_ND) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x_ND.contiguous())
    return torch.cat(parts)


def _among_largest(candidates_NK: Tensor, k: int) -> Tensor:
    """Which of this process's candidates are among each row's k largest of all, bool ``[n, K]``.

    Every process ranks the same gathered numbers, so that they agree on ties too.
    """
    n, width = candidates_NK.shape
    processes, rank = dist.get_world_size(), dist.get_rank()
    every = gathered(candidates_NK.T.contiguous()).T
    best = every.topk(min(k, every.shape[1]), dim=1, sorted=False).indices
    mask = torch.zeros(n, processes * width, dtype=torch.bool, device=candidates_NK.device)
    return mask.scatter_(1, best, True)[:, rank * width : (rank + 1) * width]
