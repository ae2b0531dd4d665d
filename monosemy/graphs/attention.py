"""Attention of one block on one prompt, held: an affine map of the stream, and its transpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.attribution.reading import BlockReading

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
        block, inverse = self.reading.block, self.reading.entry_inverse_S1
        normed = stream_TD if block.entry is None else block.entry.linear(stream_TD, inverse)
        projected_TN = normed @ block.value.weight()
        return self._out(block.value.part(projected_TN, self.reading.value_inverse))

    def constants(self) -> dict[str, Tensor]:
        """What biases add, ``[T, D]`` each: ``attention`` (b_V, b_O) and ``norm`` (shifts)."""
        block, value = self.reading.block, self.reading.block.value
        length = len(self.reading.z_SZ)
        bias_TN = value.bias().expand(length, -1)
        attention = self._out(value.part(bias_TN, self.reading.value_inverse))
        norm = self._out(value.shift().expand(length, -1, -1))
        out_bias = block.out_bias()
        if out_bias is not None:
            attention = attention + self._exit(out_bias.expand_as(attention))
        if block.entry is not None:
            shift_TN = (block.entry.shift @ value.weight()).expand(length, -1)
            norm = norm + self._out(value.part(shift_TN, self.reading.value_inverse))
        if block.exit is not None:
            norm = norm + block.exit.shift
        return {"attention": attention, "norm": norm}

    def _out(self, heads_THV: Tensor) -> Tensor:
        mixed_HTV = self.pattern() @ heads_THV.transpose(0, 1)
        return self._exit(mixed_HTV.transpose(0, 1).flatten(1) @ self.reading.block.out_weight())

    def _exit(self, made_TD: Tensor) -> Tensor:
        norm = self.reading.block.exit
        return made_TD if norm is None else norm.linear(made_TD, self.reading.exit_inverse_S1)

    def add_transposed(self, cotangents_TBD: Tensor) -> None:
        """Cotangents of the stream behind attention become, in place, those of the stream before
        it: their own and what arrives through the heads.

        ``[P, B, D]``, of the first P tokens.  Temporaries are about as large as they are, and the
        pattern of one block.
        """
        length, count, _ = cotangents_TBD.shape
        pattern_HST = self.pattern()[:, :length, :length].transpose(1, 2)
        back = self._back(length)
        into_DZ = self.reading.block.out_weight().T
        step = max(1, count // _PIECES)
        for start in range(0, count, step):
            part_TbD = cotangents_TBD[:, start : start + step]
            size = part_TbD.shape[1]
            z_TbZ = self._exit_transposed(part_TbD) @ into_DZ
            heads, width = len(pattern_HST), z_TbZ.shape[-1] // len(pattern_HST)
            z_HTv = z_TbZ.view(length, size, heads, width).permute(2, 0, 1, 3).flatten(2)
            v_HSbV = (pattern_HST @ z_HTv).view(heads, length, size, width)
            part_TbD += back(v_HSbV.permute(1, 2, 0, 3).flatten(2))

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
