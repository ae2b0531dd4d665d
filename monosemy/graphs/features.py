"""The active features of a prompt, and products of cotangents with what they write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.graphs.replacement import GraphCoder

_CHUNK = 1 << 20
"""Numbers of decoder rows that are gathered at once: 4 MB."""


@dataclass(frozen=True)
class FeatureGroup:
    """Active features of one coder that read one layer, by position and then by latent."""

    coder: GraphCoder
    layer: int
    start: int
    """The first one's number among all features of the prompt."""
    position_N: Tensor
    latent_N: Tensor
    activation_N: Tensor

    def __len__(self) -> int:
        return len(self.position_N)

    def chunks(self, tokens: int, width: int) -> Iterator[tuple[int, int, int, int]]:
        """(first feature, last + 1, first token, last + 1) of pieces of the first ``tokens``, whose
        padded decoder rows of this width are no more than a chunk."""
        counts = torch.bincount(self.position_N, minlength=tokens)[:tokens]
        ends = counts.cumsum(0).tolist()
        most = max(1, int(counts.max())) if tokens else 1
        step = max(1, _CHUNK // (most * width))
        for first in range(0, tokens, step):
            last = min(first + step, tokens)
            start, stop = (ends[first - 1] if first else 0), ends[last - 1]
            if stop > start:
                yield start, stop, first, last

    def written(self, layer: int, start: int, stop: int) -> Tensor:
        """What features add to a layer's MLP output, ``[n, D]``."""
        rows_ND = self.coder.decoder(self.latent_N[start:stop], layer)
        return rows_ND * self.activation_N[start:stop, None]

    def add_to(self, layer: int, sum_TD: Tensor) -> None:
        """Adds what all of them write at a layer."""
        for start, stop, _, _ in self.chunks(*sum_TD.shape):
            at = self.position_N[start:stop]
            sum_TD.index_add_(0, at, self.written(layer, start, stop))

    def products(self, layer: int, cotangents_PBD: Tensor, into_NB: Tensor) -> None:
        """Adds to ``into`` the product of each feature's written vector with the cotangents at its
        token; features behind the first P tokens have none."""
        tokens, _, width = cotangents_PBD.shape
        for start, stop, first, last in self.chunks(tokens, width):
            place = self.position_N[start:stop] - first
            counts = torch.bincount(place, minlength=last - first)
            column = torch.arange(stop - start, device=place.device)
            column = column - (counts.cumsum(0) - counts)[place]
            padded = cotangents_PBD.new_zeros(last - first, int(counts.max()), width)
            padded[place, column] = self.written(layer, start, stop)
            # Transposed by its strides: the product copies nothing.
            made_TKB = torch.bmm(padded, cotangents_PBD[first:last].transpose(1, 2))
            into_NB[start:stop] += made_TKB[place, column]


@dataclass(frozen=True)
class Features:
    """All active features of a prompt: by layer read, coder, position and latent."""

    coder_N: Tensor
    layer_N: Tensor
    position_N: Tensor
    latent_N: Tensor
    activation_N: Tensor
    groups: tuple[FeatureGroup, ...]

    def __len__(self) -> int:
        return len(self.latent_N)

    @classmethod
    def of(cls, parts: list[tuple[GraphCoder, Tensor, Tensor, Tensor]]) -> Features:
        """Of (coder, positions, latents, activations), on one device."""
        columns: list[tuple[Tensor, ...]] = []
        for coder, position_N, latent_N, activation_N in parts:
            layer_N = coder.layers_read(latent_N).to(position_N.device)
            coder_N = torch.full_like(position_N, coder.number)
            columns.append((layer_N, coder_N, position_N, latent_N, activation_N.float()))
        if not columns:
            nothing = torch.zeros(0, dtype=torch.int64)
            return cls(nothing, nothing, nothing, nothing, nothing.float(), ())
        joined = [torch.cat(each) for each in zip(*columns, strict=True)]
        order = torch.arange(len(joined[0]), device=joined[0].device)
        for key in reversed(joined[:4]):  # stable sorts, the least important key first
            order = order[key[order].argsort(stable=True)]
        layer_N, coder_N, position_N, latent_N, activation_N = (each[order] for each in joined)
        coders = {coder.number: coder for coder, *_ in parts}
        groups, start = [], 0
        keys = torch.stack([layer_N, coder_N], dim=1)
        distinct, counts = keys.unique_consecutive(dim=0, return_counts=True)
        for (layer, number), count in zip(distinct.tolist(), counts.tolist(), strict=True):
            part = slice(start, start + count)
            groups.append(
                FeatureGroup(
                    coders[number],
                    layer,
                    start,
                    position_N[part],
                    latent_N[part],
                    activation_N[part],
                )
            )
            start += count
        return cls(coder_N, layer_N, position_N, latent_N, activation_N, tuple(groups))
