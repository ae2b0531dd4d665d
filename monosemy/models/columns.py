"""Which columns of a row of activations an SAE reads and writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.specs.hooks import Hook, Hooks

Limits = float | Mapping[str, float] | None
"""Norms above which tokens are left out: one for the only place that is read, or by place."""


class Wide(Protocol):
    """What has activations side by side: an ``ActivationSource``."""

    @property
    def width(self) -> int: ...


def columns_of(source: Wide, hooks: Hooks) -> Mapping[str, slice]:
    """Which columns of the source are which place; of one that does not say, all are the first."""
    own: Mapping[str, slice] | None = getattr(source, "columns", None)
    return {hooks.site: slice(0, source.width)} if own is None else own


@dataclass(frozen=True)
class Columns:
    """An SAE's own columns of ``[n, width]``, in the order in which it takes and gives them."""

    read: tuple[slice, ...]
    written: tuple[slice, ...] | None = None
    """None: what is read is reconstructed."""
    max_norms: tuple[float, ...] | None = None
    """Of each place that is read, the norm above which a token does not count."""

    @classmethod
    def of(cls, hooks: Hooks, columns: Mapping[str, slice], max_norm: Limits = None) -> Columns:
        """``columns`` says where each place is; ``DataError`` where it says nothing of one."""
        written = _slices(hooks.writes, columns) if hooks.transcodes else None
        return cls(_slices(hooks.reads, columns), written, limits(hooks, max_norm))

    @classmethod
    def reading(
        cls, hooks: Hooks, columns: Mapping[str, slice], max_norm: Limits = None
    ) -> Columns:
        """The same for one who reads alone: what is written need not be there."""
        return cls(_slices(hooks.reads, columns), None, limits(hooks, max_norm))

    def reads(self, acts_NW: Tensor) -> Tensor:
        """What the SAE reads, ``[n, d_in]``: a view where it is one run of columns."""
        return _taken(acts_NW, self.read)

    def target(self, acts_NW: Tensor) -> Tensor | None:
        """What it is to reconstruct, ``[n, d_out]``; None where that is what it reads."""
        return None if self.written is None else _taken(acts_NW, self.written)

    def usable(self, acts_NW: Tensor) -> Tensor:
        """Which tokens count, bool ``[n]``: see ``usable``."""
        return usable([acts_NW[:, part] for part in self.read], self.max_norms)


WHOLE = Columns((slice(None),))
"""Of a source that holds the one place of an SAE and nothing else."""


def limits(hooks: Hooks, max_norm: Limits) -> tuple[float, ...] | None:
    """The largest norms in the order of ``hooks.reads``."""
    if max_norm is None:
        return None
    if isinstance(max_norm, Mapping):
        return tuple(max_norm[str(hook)] for hook in hooks.reads)
    return (max_norm,) * len(hooks.reads)


def usable(parts: Sequence[Tensor], max_norms: Sequence[float] | None) -> Tensor:
    """Where tokens count, bool, as in training: where the norm of the activations at every place
    (the last axis) is finite and not above its limit."""
    largest = torch.finfo(torch.float32).max
    keep = [
        part.float().norm(dim=-1) <= limit
        for part, limit in zip(parts, max_norms or (largest,) * len(parts), strict=True)
    ]
    return keep[0] if len(keep) == 1 else torch.stack(keep).all(0)


def _slices(hooks: Sequence[Hook], columns: Mapping[str, slice]) -> tuple[slice, ...]:
    for hook in hooks:
        if str(hook) not in columns:
            raise DataError(f"The activations at hand are of {', '.join(columns)}, not of {hook}.")
    return tuple(columns[str(hook)] for hook in hooks)


def _taken(acts_NW: Tensor, parts: Sequence[slice]) -> Tensor:
    joined = all(a.stop == b.start for a, b in pairwise(parts))
    if joined:
        return acts_NW[:, slice(parts[0].start, parts[-1].stop)]
    return torch.cat([acts_NW[:, part] for part in parts], dim=1)
