"""Attention of one block on one prompt, held: an affine map of the stream, and its transpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.attribution.reading import BlockReading

Passing = Callable[[Tensor, Tensor, int], Tensor]
"""(cotangents behind attention ``[P, b, D]``, those of z ``[P, b, Z]``, number of the first of the
b) -> those of z that go on to the values."""

_PIECES = 8
"""Temporaries of a transposed pass are this many times smaller than what passes, times eight."""


@dataclass(frozen=True)
class HeldAttention:
    """``attn_out = linear(stream) + sum of constants``; patterns and norms' denominators held.

    The pattern is made anew whenever it is needed: ``[H, T, T]`` of one block at a time.
    """

    reading: BlockReading

    def pattern(self) -> Tensor:
        """``[H, T, T]`` float32: head, token, source."""
        return self.reading.call.pattern_of()[0]

    def linear(self, stream_TD: Tensor) -> Tensor:
        """What a part ``[T, D]`` of the stream adds to the stream behind attention."""
        return self.written(self.z(stream_TD))

    def z(self, stream_TD: Tensor) -> Tensor:
        """What a part of the stream brings to ``attn.hook_z``, ``[T, Z]``."""
        block, inverse = self.reading.block, self.reading.entry_inverse_S1
        normed = stream_TD if block.entry is None else block.entry.linear(stream_TD, inverse)
        projected_TN = normed @ block.value.weight()
        return self._mixed(block.value.part(projected_TN, self.reading.value_inverse))

    def written(self, z_TZ: Tensor) -> Tensor:
        """What a part ``[T, Z]`` of ``attn.hook_z`` adds to the stream, ``[T, D]``."""
        return self._exit(z_TZ @ self.reading.block.out_weight())

    def constants(self) -> dict[str, Tensor]:
        """What biases add, ``[T, D]`` each: ``attention`` (b_V, b_O) and ``norm`` (shifts)."""
        behind = self.out_constants()
        return {kind: self.written(z) + behind[kind] for kind, z in self.z_constants().items()}

    def z_constants(self) -> dict[str, Tensor]:
        """What biases bring to ``attn.hook_z``, ``[T, Z]`` each: ``attention`` (b_V), ``norm``."""
        block, value = self.reading.block, self.reading.block.value
        length = len(self.reading.z_SZ)
        bias_TN = value.bias().expand(length, -1)
        attention = self._mixed(value.part(bias_TN, self.reading.value_inverse))
        norm = self._mixed(value.shift().expand(length, -1, -1))
        if block.entry is not None:
            shift_TN = (block.entry.shift @ value.weight()).expand(length, -1)
            norm = norm + self._mixed(value.part(shift_TN, self.reading.value_inverse))
        return {"attention": attention, "norm": norm}

    def out_constants(self) -> dict[str, Tensor]:
        """What is added behind ``attn.hook_z``, ``[T, D]`` each: ``attention`` (b_O), ``norm``."""
        block = self.reading.block
        nothing = torch.zeros_like(self.reading.stream_SD)
        bias, norm = block.out_bias(), nothing
        if block.exit is not None:
            norm = norm + block.exit.shift
        attention = nothing if bias is None else self._exit(bias.expand_as(nothing))
        return {"attention": attention, "norm": norm}

    def _mixed(self, heads_THV: Tensor) -> Tensor:
        mixed_HTV = self.pattern() @ heads_THV.transpose(0, 1)
        return mixed_HTV.transpose(0, 1).flatten(1)

    def _exit(self, made_TD: Tensor) -> Tensor:
        norm = self.reading.block.exit
        return made_TD if norm is None else norm.linear(made_TD, self.reading.exit_inverse_S1)

    def add_transposed(self, cotangents_TBD: Tensor, passing: Passing | None = None) -> None:
        """Cotangents of the stream behind attention become, in place, those of the stream before
        it: their own and what arrives through the heads.

        ``[P, B, D]``, of the first P tokens.  Temporaries are about as large as they are, and the
        pattern of one block.  ``passing`` says which cotangents of z go on where a coder stands
        for attention.
        """
        length, count, _ = cotangents_TBD.shape
        pattern_HST = self.pattern()[:, :length, :length].transpose(1, 2)
        back = self._back(length)
        step = max(1, count // _PIECES)
        for start in range(0, count, step):
            part_TbD = cotangents_TBD[:, start : start + step]
            size = part_TbD.shape[1]
            z_TbZ = self.read(part_TbD)
            if passing is not None:
                z_TbZ = passing(part_TbD, z_TbZ, start)
            heads, width = len(pattern_HST), z_TbZ.shape[-1] // len(pattern_HST)
            z_HTv = z_TbZ.view(length, size, heads, width).permute(2, 0, 1, 3).flatten(2)
            v_HSbV = (pattern_HST @ z_HTv).view(heads, length, size, width)
            part_TbD += back(v_HSbV.permute(1, 2, 0, 3).flatten(2))

    def read(self, part_TbD: Tensor) -> Tensor:
        """Cotangents ``[P, b, D]`` of what attention adds as those of z, ``[P, b, Z]``."""
        return self._exit_transposed(part_TbD) @ self.reading.block.out_weight().T

    def _exit_transposed(self, part_TbD: Tensor) -> Tensor:
        norm = self.reading.block.exit
        if norm is None:
            return part_TbD
        return norm.transposed(part_TbD, self.reading.exit_inverse_S1[: len(part_TbD), None])

    def _back(self, length: int) -> Callable[[Tensor], Tensor]:
        """From cotangents of the values ``[P, b, H * V]`` to those of the stream."""
        block, value = self.reading.block, self.reading.block.value
        entry, inverse_S11 = block.entry, self.reading.entry_inverse_S1[:length, None]
        weight_DN, held = value.weight(), self.reading.value_inverse
        value_inverse = None if held is None else held[:length].unsqueeze(1)

        def back(into_TbV: Tensor) -> Tensor:
            normed_TbD = value.transposed(into_TbV, value_inverse, weight_DN)
            return normed_TbD if entry is None else entry.transposed(normed_TbD, inverse_S11)

        return back


def check_parts(held: HeldAttention, attn_out_TD: Tensor) -> float:
    """How far the affine map is from what attention gave, as a share of its norm."""
    made = held.linear(held.reading.stream_SD) + torch.stack([*held.constants().values()]).sum(0)
    off = (made - attn_out_TD).norm() / attn_out_TD.norm().clamp_min(1e-30)
    return float(off)
