"""Which columns of which linear layers become queries, keys and values: found by their values.

The inputs of an attention module's linear layers are replaced by random vectors for one forward.
What attention is then called with is looked up among the outputs of those layers (and of norms
behind them) column by column, so that fused layers, interleaved heads and shared keys need no
formula.  Random vectors differ in every direction; those of a text may hardly do, at the first
token above all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from monosemy.models.architecture import is_linear, linear_weight
from monosemy.models.norms import FrozenNorm, frozen_norm

ROWS = 48
"""Random rows: columns that are not the same correlate by .15 at random, by .7 never."""

_SAME = 1e-4
_SAME_HALF = 1e-2
"""Largest 1 - cosine of a column with the one that it is, in float32 and in half precision."""


@dataclass(frozen=True)
class Projection:
    """``heads = select(norm?(x @ weight + bias))``, before any rotation."""

    module: nn.Module
    columns: Tensor
    """int64: of the linear layer's output, those that the norm takes (or the heads), in order."""
    norm: FrozenNorm | None
    norm_shape: tuple[int, ...]
    """How the norm takes one token's columns; empty without a norm."""
    select: Tensor
    """int64 ``[G, E]``: where each head's dimensions lie among the (normed) columns."""
    factor: float
    """What they are multiplied by on the way; with a rotation that is part of it."""

    def weight(self) -> Tensor:
        """``[D, n]`` float32, of the columns."""
        return linear_weight(self.module).detach()[:, self.columns].float()

    def bias(self) -> Tensor:
        """``[n]`` float32; 0 where the layer has none."""
        bias = getattr(self.module, "bias", None)
        if bias is None:
            return torch.zeros(len(self.columns), device=self.columns.device)
        return bias.detach()[self.columns].float()

    def inverse(self, raw_SN: Tensor) -> Tensor | None:
        """``1 / sigma`` of the norm on the projected vectors ``[S, n]``, from what it gives."""
        if self.norm is None:
            return None
        shaped = raw_SN.view(*raw_SN.shape[:-1], *self.norm_shape)
        dtype = next(self.module.parameters()).dtype
        with torch.no_grad():
            given = self.norm.module.forward(shaped[None].to(dtype))[0].float()
        return self.norm.inverse(shaped, given)

    def part(self, projected_SN: Tensor, inverse: Tensor | None) -> Tensor:
        """Heads ``[S, G, E]`` of a part of the projected vectors, without the norm's shift."""
        if self.norm is not None:
            assert inverse is not None
            shaped = projected_SN.view(*projected_SN.shape[:-1], *self.norm_shape)
            projected_SN = self.norm.linear(shaped, inverse).reshape(projected_SN.shape)
        return projected_SN[..., self.select] * self.factor

    def transposed(self, into: Tensor, inverse: Tensor | None, weight_DN: Tensor) -> Tensor:
        """Directions of x ``[..., D]`` that directions of the heads ``[..., G * E]`` read: the
        transpose of ``part(x @ weight, inverse)``.  The caller's ``weight``, in its own dtype."""
        select = self.select.flatten()
        if self.norm is None:
            return into @ (weight_DN.T[select] * self.factor)
        assert inverse is not None
        taken = into.new_zeros(*into.shape[:-1], weight_DN.shape[1])
        taken.index_add_(-1, select, into * self.factor)
        shaped = taken.view(*taken.shape[:-1], *self.norm_shape)
        return self.norm.transposed(shaped, inverse).reshape(taken.shape) @ weight_DN.T

    def shift(self) -> Tensor:
        """What the norm adds to the heads, ``[G, E]``."""
        if self.norm is None:
            return torch.zeros(self.select.shape, device=self.select.device)
        return self.norm.shift.reshape(-1)[self.select] * self.factor


class NormSeen(NamedTuple):
    """What a norm took and gave, ``[N, ...]``."""

    module: nn.Module
    taken: Tensor
    given: Tensor


def linear_layers(attention: nn.Module, out_projection: nn.Module) -> list[nn.Module]:
    """Those of an attention module that stand before attention itself."""
    return [each for each in attention.modules() if is_linear(each) and each is not out_projection]


def norm_layers(attention: nn.Module) -> list[nn.Module]:
    return [each for each in attention.modules() if "norm" in type(each).__name__.lower()]


def find_projection(
    used_NGE: Tensor,
    outputs: Mapping[nn.Module, Tensor],
    norms: Sequence[NormSeen],
) -> Projection | None:
    """What becomes the vectors ``used`` ``[N, G, E]`` of N tokens of random input.

    ``outputs``: what each linear layer gave, ``[N, O]``.  None where nothing does.
    """
    wanted = used_NGE.flatten(1).float()
    shape, same = used_NGE.shape[1:], _same(used_NGE.dtype)
    for norm_module, taken, given in norms:
        found = _columns(wanted, given.flatten(1).float(), same)
        if found is None:
            continue
        place, factor = found
        for module, output in outputs.items():
            columns = _columns(taken.flatten(1).float(), output.float(), same)
            norm = frozen_norm(norm_module, tuple(taken.shape[1:]), taken.device)
            if columns is not None and norm is not None:
                return Projection(
                    module, columns[0], norm, tuple(taken.shape[1:]), place.view(shape), factor
                )
    for module, output in outputs.items():
        found = _columns(wanted, output.float(), same)
        if found is not None:
            place, factor = found
            select = torch.arange(len(place), device=place.device).view(shape)
            return Projection(module, place, None, (), select, factor)
    return None


def _same(dtype: torch.dtype) -> float:
    return _SAME if dtype == torch.float32 else _SAME_HALF


def _columns(wanted_NW: Tensor, there_NO: Tensor, same: float) -> tuple[Tensor, float] | None:
    """(for each wanted column the one that it is, the factor between them), or None."""
    unit_NW, unit_NO = (
        each / each.norm(dim=0, keepdim=True).clamp_min(1e-30) for each in (wanted_NW, there_NO)
    )
    likeness_W, place_W = (unit_NW.T @ unit_NO).max(dim=1)
    if not bool((likeness_W >= 1 - same).all()):
        return None
    theirs = there_NO[:, place_W]
    factor = float((theirs * wanted_NW).sum() / theirs.square().sum().clamp_min(1e-30))
    if abs(factor - 1) < same:
        factor = 1.0
    off = (wanted_NW - factor * theirs).norm() / wanted_NW.norm().clamp_min(1e-30)
    return (place_W, factor) if float(off) <= 10 * same else None
