"""What every attention head adds to the stream, as the mean over a prompt's tokens.

The mean is taken of ``z``, the input of the output projection, and goes through the head's part of
that projection afterwards: it is linear, and ``z`` is much smaller.  (Behind a sandwich norm the
result is right up to a factor, see ``HostModel.output_directions``.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.data.tasks.examples import Example
from monosemy.errors import DataError, ModelError
from monosemy.models import sites
from monosemy.models.host import HostModel
from monosemy.models.rows import Ids, batches, padded
from monosemy.models.sites import parse_site
from monosemy.progress import SILENT, Reporter

_VALUES_AT_ONCE = 2**25
"""Captured numbers (tokens x heads x layers) of one forward."""
_OUTPUTS_AT_ONCE = 2**24
"""Numbers of head outputs that are there at a time."""


@dataclass(frozen=True)
class HeadMap:
    """The heads of a host model, layer by layer; ``index`` counts them in that order."""

    layers: tuple[int, ...]
    """Those that have attention heads."""
    per_layer: int
    sites: tuple[str, ...]
    widths: tuple[int, ...]
    """Length of ``z`` at each layer, all heads together."""

    @property
    def count(self) -> int:
        return len(self.layers) * self.per_layer

    def names(self) -> list[tuple[int, int]]:
        """(layer, head) of every index."""
        return [(layer, head) for layer in self.layers for head in range(self.per_layer)]

    def __str__(self) -> str:
        return f"{len(self.layers)} layers of {self.per_layer} heads"


def heads_of(host: HostModel) -> HeadMap:
    """``ModelError`` for a host without attention heads that stand side by side at a site."""
    per_layer = host.abilities.heads
    found = [site for site in host.sites() if parse_site(site).kind == sites.Z]
    if per_layer is None or not found:
        raise ModelError(
            f"{host.name} shows no attention heads side by side at a site attn.hook_z.",
            "Circuits by codes need a host model with attention heads.",
        )
    return HeadMap(
        tuple(parse_site(site).layer for site in found),
        per_layer,
        tuple(found),
        tuple(host.site_width(site) for site in found),
    )


def rows_of(host: HostModel, examples: Sequence[Example]) -> list[Ids]:
    """Token ids as the host reads them, its BOS first where it has one.  ``DataError`` names a
    prompt that is longer than the host reads."""
    begin = () if host.bos_id is None else (host.bos_id,)
    limit = host.abilities.positions
    rows = [(*begin, *example.ids) for example in examples]
    for number, row in enumerate(rows):
        if limit is not None and len(row) > limit:
            raise DataError(
                f"A prompt has {len(row)} tokens; {host.name} reads {limit} at once: "
                f"{examples[number].text!r:.80}."
            )
    return rows


@dataclass(frozen=True)
class CapturedBatch:
    """What one forward has shown."""

    rows: list[int]
    """Which rows these are."""
    z: list[Tensor]
    """By layer: ``[B, S, width]`` float32; zeros and garbage at padding."""
    mask_BS: Tensor
    """Real tokens, BOS left out."""
    lengths: list[int]
    """Tokens of each row, BOS included."""


def captured(
    host: HostModel, heads: HeadMap, rows: Sequence[Ids], reporter: Reporter = SILENT
) -> Iterator[CapturedBatch]:
    """Forwards over ``rows``, those of like length together; stage ``activations`` in prompts."""
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    ordered = [rows[row] for row in order]
    skip = 0 if host.bos_id is None else 1
    with reporter.stage("activations", len(rows), "prompts") as stage:
        for part in batches(ordered, sum(heads.widths), _VALUES_AT_ONCE):
            ids_BS, mask_BS = padded(ordered[part], host.pad_id)
            values = host.capture(ids_BS, mask_BS, heads.sites)
            mask_BS[:, :skip] = 0
            yield CapturedBatch(
                order[part],
                [values[site].float().cpu() for site in heads.sites],
                mask_BS.bool(),
                [len(row) for row in ordered[part]],
            )
            stage.advance(len(ordered[part]))


class HeadOutputs:
    """Mean ``z`` of every head for every prompt, and what the heads add to the stream with it."""

    def __init__(self, host: HostModel, heads: HeadMap, prompts: int) -> None:
        self.host, self.heads = host, heads
        self.z = [
            torch.zeros(prompts, heads.per_layer, width // heads.per_layer)
            for width in heads.widths
        ]
        """By layer: ``[N, heads, d_head]`` float32 on the CPU."""

    def add(self, batch: CapturedBatch) -> None:
        weight_BS = batch.mask_BS.float()
        weight_BS = weight_BS / weight_BS.sum(1, keepdim=True)
        for layer, z_BSW in enumerate(batch.z):
            mean_BW = torch.einsum("bs,bsw->bw", weight_BS, z_BSW * batch.mask_BS[..., None])
            self.z[layer][batch.rows] = mean_BW.view(len(batch.rows), self.heads.per_layer, -1)

    def finite(self) -> bool:
        return all(bool(z.isfinite().all()) for z in self.z)

    def of(self, prompts: Sequence[int] | slice) -> Iterator[tuple[int, Tensor]]:
        """(layer's place, outputs ``[n, heads, d_model]``) of some prompts, layer by layer."""
        for place in range(len(self.heads.layers)):
            yield place, self._project(place)(self.z[place][prompts])

    def by_blocks(self) -> Iterator[tuple[slice, int, Tensor]]:
        """(prompts, layer's place, outputs): of all prompts, in parts of bounded size."""
        count = len(self.z[0])
        step = max(1, _OUTPUTS_AT_ONCE // (self.heads.per_layer * self.host.d_model))
        for place in range(len(self.heads.layers)):
            project = self._project(place)
            for first in range(0, count, step):
                part = slice(first, min(first + step, count))
                yield part, place, project(self.z[place][part])

    def _project(self, place: int) -> Callable[[Tensor], Tensor]:
        width = self.heads.widths[place]
        eye = torch.eye(width, device=self.host.device)
        weights = self.host.output_directions(self.heads.sites[place], eye).float().cpu()
        W_HCD = weights.view(self.heads.per_layer, -1, weights.shape[1])
        return lambda z_NHC: torch.einsum("nhc,hcd->nhd", z_NHC, W_HCD)
