"""Decoders of a cross-layer transcoder: what latents of a layer write at it and at those after.

Latents are numbered layer by layer.  Nothing here is ``[layers * d, d_sae]``: what is not written
is neither stored nor multiplied, but in ``rows``, which is asked for few latents.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from monosemy.saes.ragged import Entries, entry_sums

_BLOCK_ROWS = 512


class LayeredDecoder(nn.Module, ABC):
    """``layers`` times ``size`` latents, whose layers write ``width`` numbers each."""

    matrices: nn.ParameterList

    def __init__(self, layers: int, size: int, width: int) -> None:
        super().__init__()
        self.layers, self.size, self.width = layers, size, width

    def split(self, entries: Entries) -> list[Entries]:
        """Those of each layer, latents numbered within it.  Waits for the device, for their
        counts."""
        with torch.no_grad():
            layer = torch.div(entries.latents, self.size, rounding_mode="floor").to(torch.uint8)
            order = layer.argsort(stable=True)
            counts = torch.bincount(layer, minlength=self.layers).tolist()
            rows, latents = entries.rows[order], entries.latents[order] % self.size
        parts = zip(
            rows.split(counts),
            latents.split(counts),
            entries.values[order].split(counts),
            strict=True,
        )
        return [Entries(*part) for part in parts]

    @abstractmethod
    def sums(self, parts: Sequence[Entries], n: int) -> Tensor:
        """What the entries of each layer write at n tokens, ``[n, layers * width]``."""

    @abstractmethod
    def dense(self, acts: Sequence[Tensor], latents: Sequence[Tensor | None]) -> Tensor:
        """The same of activations ``[n, f]`` of each layer's ``latents`` (int64 ``[f]`` within it,
        None for all)."""

    @abstractmethod
    def rows(self, latents: Tensor) -> Tensor:
        """``[n, layers * width]`` of latents ``[n]``, numbered over all layers; no graph."""

    @abstractmethod
    def block_norms(self) -> Tensor:
        """Length of what each latent writes at each layer, ``[d_sae, layers]``; no graph."""

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Random rows of unit length over all layers that they are written at."""
        for W in self.matrices:
            W.copy_(torch.randn(W.shape, generator=generator))
        self.normalise()

    def normalise(self) -> None:
        """Sets every row, over all layers that it is written at, to unit length."""
        for W in self.matrices:
            unit_rows(W)

    def project_gradient(self) -> None:
        """Removes from the gradients what would only change lengths."""
        for W in self.matrices:
            tangent_gradient(W)

    @abstractmethod
    def scale(self, factor: Tensor | float) -> None:
        """Multiplies what is written by ``factor``, a number or ``[layers * width]``."""


class TriangularDecoder(LayeredDecoder):
    """A matrix ``[size, (layers - l) * width]`` for each layer l that is read."""

    def __init__(self, layers: int, size: int, width: int) -> None:
        super().__init__(layers, size, width)
        self.matrices = nn.ParameterList(
            torch.zeros(size, (layers - layer) * width) for layer in range(layers)
        )

    def sums(self, parts: Sequence[Entries], n: int) -> Tensor:
        return _stacked(
            [entry_sums(part, W, n) for part, W in zip(parts, self.matrices, strict=True)]
        )

    def dense(self, acts: Sequence[Tensor], latents: Sequence[Tensor | None]) -> Tensor:
        return _stacked(
            [
                part @ (W if which is None else W.index_select(0, which))
                for part, W, which in zip(acts, self.matrices, latents, strict=True)
            ]
        )

    @torch.no_grad()
    def rows(self, latents: Tensor) -> Tensor:
        like = self.matrices[0]
        rows = like.new_zeros(len(latents), self.layers * self.width)
        for layer, W in enumerate(self.matrices):
            own = (latents // self.size == layer).nonzero().squeeze(1)
            rows[own, layer * self.width :] = W[latents[own] % self.size]
        return rows

    @torch.no_grad()
    def block_norms(self) -> Tensor:
        norms = self.matrices[0].new_zeros(self.layers, self.size, self.layers)
        for layer, W in enumerate(self.matrices):
            norms[layer, :, layer:] = W.view(self.size, -1, self.width).norm(dim=2)
        return norms.flatten(0, 1)

    @torch.no_grad()
    def scale(self, factor: Tensor | float) -> None:
        for layer, W in enumerate(self.matrices):
            W.mul_(factor[layer * self.width :] if isinstance(factor, Tensor) else factor)


class SharedDecoder(LayeredDecoder):
    """A matrix ``[size, width]`` for each layer that is written, which the latents of a number
    share, whatever layer they read (an incremental cross-layer transcoder).

    A latent of layer l writes ``1 / sqrt(layers - l)`` times the rows, so that over all layers that
    it is written at its row has unit length like every other's.
    """

    def __init__(self, layers: int, size: int, width: int) -> None:
        super().__init__(layers, size, width)
        self.matrices = nn.ParameterList(torch.zeros(size, width) for _ in range(layers))

    def _share(self, layer: int) -> float:
        return float((self.layers - layer) ** -0.5)

    def sums(self, parts: Sequence[Entries], n: int) -> Tensor:
        shared = [
            part._replace(values=part.values * self._share(layer))
            for layer, part in enumerate(parts)
        ]
        written = []
        for target, W in enumerate(self.matrices):
            rows, latents, values = (
                torch.cat(each) for each in zip(*shared[: target + 1], strict=True)
            )
            order = rows.argsort(stable=True)
            written.append(entry_sums(Entries(rows[order], latents[order], values[order]), W, n))
        return torch.cat(written, dim=1)

    def dense(self, acts: Sequence[Tensor], latents: Sequence[Tensor | None]) -> Tensor:
        written = []
        for target, W in enumerate(self.matrices):
            sources = zip(acts[: target + 1], latents[: target + 1], strict=True)
            written.append(
                sum(
                    (part * self._share(layer)) @ (W if which is None else W.index_select(0, which))
                    for layer, (part, which) in enumerate(sources)
                )
            )
        return torch.cat(written, dim=1)  # type: ignore[arg-type]

    @torch.no_grad()
    def rows(self, latents: Tensor) -> Tensor:
        layer, own = latents // self.size, latents % self.size
        share = (self.layers - layer).to(self.matrices[0].dtype).rsqrt()
        parts = [
            W[own] * (share * (layer <= target))[:, None] for target, W in enumerate(self.matrices)
        ]
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def block_norms(self) -> Tensor:
        own = torch.stack([W.norm(dim=1) for W in self.matrices], dim=1)
        layers = torch.arange(self.layers, device=own.device)
        share = (self.layers - layers).to(own.dtype).rsqrt()
        writes = (layers[None, :] >= layers[:, None]) * share[:, None]
        return (writes[:, None, :] * own).flatten(0, 1)

    @torch.no_grad()
    def scale(self, factor: Tensor | float) -> None:
        for target, W in enumerate(self.matrices):
            own = slice(target * self.width, (target + 1) * self.width)
            W.mul_(factor[own] if isinstance(factor, Tensor) else factor)


@torch.no_grad()
def unit_rows(W: Tensor) -> None:
    """Sets every row to unit length."""
    W.div_(W.norm(dim=1, keepdim=True).clamp_min(1e-12))


@torch.no_grad()
def tangent_gradient(W: Tensor) -> None:
    """Removes from the gradient of unit rows what would only change a row's length."""
    if W.grad is None:
        return
    # By blocks: a product of the whole would be a third matrix of this size.
    for grad, rows in zip(W.grad.split(_BLOCK_ROWS), W.split(_BLOCK_ROWS), strict=True):
        grad.addcmul_((grad * rows).sum(1, keepdim=True), rows, value=-1)


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """The sum of parts ``[n, (layers - l) * width]``, each of which ends where the widest does."""
    result: Tensor = _Stacked.apply(*parts)
    return result


class _Stacked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        ctx.widths = [part.shape[1] for part in parts]
        total = parts[0].clone()
        for part in parts[1:]:
            total[:, -part.shape[1] :] += part
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return tuple(grads[0][:, -width:] for width in ctx.widths)
