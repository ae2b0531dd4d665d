"""Where coders read, as linear maps of the stream with the norms' denominators held."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from monosemy.attribution.attention import TOLERANCE
from monosemy.attribution.rotations import distance
from monosemy.errors import ModelError
from monosemy.models import sites as kinds
from monosemy.models.host import HostModel
from monosemy.models.norms import FrozenNorm, frozen_norm
from monosemy.models.sites import Site

Stream = Literal["pre", "mid"]
"""The stream before a block, or between its attention and its MLP."""


@dataclass(frozen=True)
class ReadPlace:
    """``value = [gain] * centre(stream) / sigma [+ shift]`` at every token for itself."""

    site: Site
    stream: Stream
    value_TD: Tensor
    norm: FrozenNorm | None = None
    inverse_T1: Tensor | None = None
    gained: bool = True
    """Whether the norm's gain and shift count: not where the site is before them."""

    @property
    def shift(self) -> Tensor | None:
        """``[D]``: what is read of no stream at all; None where that is nothing."""
        return self.norm.shift if self.norm is not None and self.gained else None

    def linear(self, stream_TD: Tensor) -> Tensor:
        """What a part of the stream is at the place, ``[T, D]``."""
        if self.norm is None or self.inverse_T1 is None:
            return stream_TD
        if self.gained:
            return self.norm.linear(stream_TD, self.inverse_T1)
        return self.norm.centre(stream_TD) * self.inverse_T1

    def transposed(self, directions: Tensor, tokens: Tensor | slice) -> Tensor:
        """Directions at the place ``[n, ..., D]``, one group for each of n tokens, as directions of
        the stream."""
        if self.norm is None or self.inverse_T1 is None:
            return directions
        inverse = self.inverse_T1[tokens]
        inverse = inverse.view(-1, *(1 for _ in directions.shape[1:]))
        if self.gained:
            return self.norm.transposed(directions, inverse)
        return self.norm.centre(directions) * inverse


def read_place(
    host: HostModel, site: Site, value_TD: Tensor, streams: Mapping[Stream, Tensor]
) -> ReadPlace:
    """The map that makes this site of a stream, proved on the prompt itself.

    ``streams``: those of the block.  ``ModelError`` where none does.
    """
    allowed = TOLERANCE.get(host.dtype, 2e-5)
    for place in _candidates(host, site, value_TD, streams):
        made = place.linear(streams[place.stream])
        if place.shift is not None:
            made = made + place.shift
        if distance(made, value_TD) <= allowed:
            return place
    raise ModelError(
        f"What {site} has is no norm of the stream of its block, so no graph goes through it.",
        f"Coders of a graph read {kinds.RESID_MID}, {kinds.RESID_PRE} or what the MLP reads.",
    )


def _candidates(
    host: HostModel, site: Site, value_TD: Tensor, streams: Mapping[Stream, Tensor]
) -> Iterator[ReadPlace]:
    for stream in streams:
        yield ReadPlace(site, stream, value_TD)
    for module in _norms(host, site.layer):
        norm = frozen_norm(module, (host.d_model,), host.device)
        if norm is None:
            continue
        for stream, x_TD in streams.items():
            with torch.no_grad():
                given_TD = module.forward(x_TD[None].to(host.dtype))[0].float()
            inverse_T1 = norm.inverse(x_TD, given_TD)
            for gained in (True, False):
                yield ReadPlace(site, stream, value_TD, norm, inverse_T1, gained)


def _norms(host: HostModel, layer: int) -> list[nn.Module]:
    with host.opened(layer) as opened:
        block = opened.sites.maps[layer].block
        return [each for each in block.children() if "norm" in type(each).__name__.lower()]
