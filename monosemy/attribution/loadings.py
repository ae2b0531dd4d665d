"""Which heads carry an edge from one token to another, block by block.

An edge of the linearised host (``linearised.py``) goes from a vector in the stream at one token to
a direction that is read at another.  Where it crosses one layer of attention it splits over heads,

    edge = sum over h of  A_h[t, s] (v_s W_V^h W_O^h) . g_t,

with the vector behind the frozen norm and the gradient that arrives at the attention's output.
Across several layers it is a sum over paths, so that no head has a share of it as such; but at
every layer each path goes either through one head or past attention.  With ``u_m`` what the source
has become in the stream before block m, and ``w_m`` the gradient of the target there,

    edge = u_m . w_(m+1)  +  sum over h of  h(u_m) . w_(m+1)       for every block m on the way:

the *bypass* and the *head loadings* of that block.  One sweep of the target backwards gives all
``w``, one of the source forwards all ``u``; MLPs' outputs are held, and carry nothing.

Values, W_O and norms are the proven parts of attention (``attention.py``).  Norms of queries and
keys, rotations, windows and soft caps make the pattern, which is held; biases have no part in an
edge.

Head loadings are those of Kamath et al. (2025), "Tracing Attention Computation Through Feature
Interactions"; the split at every layer of several is ours.  Attribution graphs are to take it edge
by edge: a step of the attention lens crosses one layer, whose heads it tells already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from monosemy.attribution.projections import Projection
from monosemy.attribution.reading import BlockReading
from monosemy.models.norms import FrozenNorm


class StreamVector(NamedTuple):
    """A vector ``[D]`` of the stream before a block at one token: what is written there, or the
    direction that is read there.

    What an MLP or an attention of block m writes, and what is read behind that attention, is of the
    stream before block m + 1 (MLPs are held); of block 0, embeddings; of the block after the last,
    directions before the last norm (``FrozenNorm.transposed``).
    """

    layer: int
    token: int
    vector_D: Tensor


@dataclass(frozen=True)
class LayerLoadings:
    """How an edge gets past the attention of one block; float64."""

    layer: int
    by_head_H: Tensor
    """Through each head, by all paths."""
    bypass: float
    """Along the stream, past the heads of this block."""


@dataclass(frozen=True)
class EdgeLoadings:
    """An edge of the linearised host, and how it goes."""

    value: float
    """The gradient of the target with regard to the stream at the source, times the source."""
    layers: list[LayerLoadings]
    """Block by block from the source's to the last before the target's; in each, heads and bypass
    sum to ``value``.  Empty where no attention lies between."""


def head_loadings(
    blocks: Mapping[int, BlockReading], source: StreamVector, target: StreamVector
) -> EdgeLoadings:
    """The edge from ``source`` to ``target`` by heads, at each layer of attention between them.

    ``blocks``: a prompt's (``reading.read``), all from the source's layer to the one before the
    target's.  Computed in float64 on the blocks' device; three products with the pattern and the
    weights of each block, for the tokens from source to target.
    Raises ``ValueError`` for a target below the source, and for blocks, tokens or vectors that do
    not fit.
    """
    _check(blocks, source, target)
    layers = range(source.layer, target.layer)
    length = target.token + 1 - source.token
    if length < 1:  # nobody looks ahead
        nothing = [_nothing(blocks[layer], layer) for layer in layers]
        return EdgeLoadings(0.0, nothing)
    tokens = slice(source.token, target.token + 1)
    maps = {layer: _Heads.of(blocks[layer], tokens) for layer in layers}
    ahead_SD = _placed(target.vector_D, length - 1, length)
    behind: dict[int, tuple[Tensor, Tensor]] = {}
    for layer in reversed(layers):
        into_HSV = maps[layer].read_by(ahead_SD)
        behind[layer] = into_HSV, ahead_SD
        ahead_SD = ahead_SD + maps[layer].backwards(into_HSV)
    moved_SD = _placed(source.vector_D, 0, length)
    value = float((moved_SD * ahead_SD).sum())
    result = []
    for layer in layers:
        into_HSV, ahead_SD = behind[layer]
        z_HSV = maps[layer].forwards(moved_SD)
        by_head_H = (z_HSV * into_HSV).sum((1, 2))
        result.append(LayerLoadings(layer, by_head_H, float((moved_SD * ahead_SD).sum())))
        moved_SD = moved_SD + maps[layer].written(z_HSV)
    return EdgeLoadings(value, result)


@dataclass(frozen=True)
class _Heads:
    """The heads of one block as a linear map of the stream at some tokens, float64."""

    pattern_HSS: Tensor
    entry: FrozenNorm | None
    entry_inverse_S1: Tensor
    value: Projection
    value_inverse: Tensor | None
    weight_DN: Tensor
    out_HVD: Tensor
    exit: FrozenNorm | None
    exit_inverse_S1: Tensor

    @classmethod
    def of(cls, reading: BlockReading, tokens: slice) -> _Heads:
        block, inverse = reading.block, reading.value_inverse
        out_ZD = block.out_weight().double()
        return cls(
            pattern_HSS=reading.pattern_HSS[:, tokens, tokens].double(),
            entry=block.entry,
            entry_inverse_S1=reading.entry_inverse_S1[tokens].double(),
            value=block.value,
            value_inverse=None if inverse is None else inverse[tokens].double(),
            weight_DN=block.value.weight().double(),
            out_HVD=out_ZD.view(block.heads, block.width, -1),
            exit=block.exit,
            exit_inverse_S1=reading.exit_inverse_S1[tokens].double(),
        )

    def forwards(self, moved_SD: Tensor) -> Tensor:
        """What a part of the stream brings to ``hook_z``, ``[H, S, V]``."""
        if self.entry is not None:
            moved_SD = self.entry.linear(moved_SD, self.entry_inverse_S1)
        value_SGV = self.value.part(moved_SD @ self.weight_DN, self.value_inverse)
        value_HSV = value_SGV.transpose(0, 1).repeat_interleave(self._shared(), dim=0)
        return self.pattern_HSS @ value_HSV

    def written(self, z_HSV: Tensor) -> Tensor:
        """What the heads write into the stream, ``[S, D]``."""
        added_SD = torch.einsum("hsv,hvd->sd", z_HSV, self.out_HVD)
        return added_SD if self.exit is None else self.exit.linear(added_SD, self.exit_inverse_S1)

    def read_by(self, along_SD: Tensor) -> Tensor:
        """Directions of ``hook_z`` that directions of the stream behind the block read."""
        if self.exit is not None:
            along_SD = self.exit.transposed(along_SD, self.exit_inverse_S1)
        return torch.einsum("sd,hvd->hsv", along_SD, self.out_HVD)

    def backwards(self, into_HSV: Tensor) -> Tensor:
        """Directions of the stream before the block that those of ``hook_z`` read."""
        along_HSV = self.pattern_HSS.transpose(1, 2) @ into_HSV
        shared = self._shared()
        along_GSV = along_HSV.unflatten(0, (len(along_HSV) // shared, shared)).sum(1)
        along_SM = along_GSV.transpose(0, 1).flatten(1)
        back_SD = self.value.transposed(along_SM, self.value_inverse, self.weight_DN)
        if self.entry is None:
            return back_SD
        return self.entry.transposed(back_SD, self.entry_inverse_S1)

    def _shared(self) -> int:
        """Heads that share one value."""
        return len(self.pattern_HSS) // len(self.value.select)


def _placed(vector_D: Tensor, token: int, length: int) -> Tensor:
    stream_SD = torch.zeros(length, len(vector_D), dtype=torch.float64, device=vector_D.device)
    stream_SD[token] = vector_D.detach().double()
    return stream_SD


def _nothing(reading: BlockReading, layer: int) -> LayerLoadings:
    heads = reading.block.heads
    return LayerLoadings(layer, torch.zeros(heads, dtype=torch.float64), 0.0)


def _check(blocks: Mapping[int, BlockReading], source: StreamVector, target: StreamVector) -> None:
    if target.layer < source.layer:
        raise ValueError(
            f"the target is of block {target.layer}, below the source's {source.layer}"
        )
    missing = [layer for layer in range(source.layer, target.layer) if layer not in blocks]
    if missing:
        raise ValueError(f"blocks {missing} are not read")
    for name, each in (("source", source), ("target", target)):
        for layer in range(source.layer, target.layer):
            length, width = blocks[layer].stream_SD.shape
            if not 0 <= each.token < length:
                raise ValueError(f"{name}: the prompt has no token {each.token}")
            if each.vector_D.shape != (width,):
                raise ValueError(f"{name}: a vector of length {width} is needed")
