"""From a feature step by step back to what made it: each step's parts sum to what it explains.

feature of attn.hook_z at t  ->  sources (tokens) through its heads
source                       ->  features of the stream (norm held), or what was written into it
feature of the stream        ->  embedding, position, attn_out and mlp_out of the blocks below
attn_out of a block          ->  features of its attn.hook_z, or sources
features                     ->  as above

Biases, the norms' shift and the errors of SAEs are parts of their own; so is ``encoder``, what
later steps of an encoder (refinement, a pursuit) changed after the pre-activation, and
``rounding``.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from monosemy.attribution.reading import BlockReading, PromptReading, read
from monosemy.attribution.sources import Sources
from monosemy.attribution.stream import (
    StreamPart,
    needed_points,
    needed_sites,
    stream_parts,
)
from monosemy.errors import DataError
from monosemy.models import sites
from monosemy.models.host import HostModel
from monosemy.models.sites import Site, parse_site
from monosemy.saes.base import SAE
from monosemy.saes.codes import Codes
from monosemy.specs.inference.attention import PartKind

MOST_STEPS = 64
"""Parts of one feature that are taken further back, the largest first."""


@dataclass
class Part:
    """A summand of the part that it stands under."""

    kind: PartKind
    value: float
    token: int | None = None
    layer: int | None = None
    sae: int | None = None
    """Number of the SAE whose feature it is."""
    feature: int | None = None
    activation: float | None = None
    count: int | None = None
    """Of ``other``: how many parts it stands for."""
    parts: list[Part] | None = None
    """What it is the sum of; None where it was not taken further back."""
    step: Callable[[], list[Part]] | None = field(default=None, repr=False)
    """Takes it one step back; None where nothing is behind it."""


class Through(NamedTuple):
    """An SAE that attributions go through, and the number by which its parts name it."""

    number: int
    sae: SAE
    site: str


class _Coded(NamedTuple):
    """An SAE on the prompt."""

    number: int
    sae: SAE
    codes: Codes
    acts_SD: Tensor
    error_SD: Tensor


def stream_layer(site: str) -> int:
    """The block that reads a site of the stream; ``DataError`` for a site within a block."""
    place = parse_site(site)
    if place.kind == sites.RESID_PRE:
        return place.layer
    if place.kind == sites.RESID_POST:
        return place.layer + 1
    raise DataError(
        f"The SAE reads {site}, which is not the stream between two blocks.",
        f"Take one on blocks.N.{sites.RESID_PRE} or blocks.N.{sites.RESID_POST}.",
    )


class Backwards:
    """Attributions of one prompt.

    ``depth`` says how far back its steps will go: 0 to the sources, 1 to features of the stream
    there, 2 to what was written into it (1 without an SAE on the stream), more through attention
    below.  What that needs is read at once.
    Raises ``ModelError`` for attention that cannot be taken apart, and ``DataError`` for an SAE
    that does not reconstruct the site that it reads, or two of one place.
    """

    def __init__(
        self,
        host: HostModel,
        ids: Sequence[int],
        layer: int,
        through: Iterable[Through] = (),
        depth: int = 0,
    ) -> None:
        self.host, self.layer = host, layer
        self._through: dict[tuple[str, int], Through] = {}
        for each in through:
            self._place(each)
        # Without an SAE on the stream there is one step less between a source and what was written.
        steps = depth if (sites.RESID_PRE, layer) in self._through else depth + 1
        layers = range(layer + 1) if steps >= 3 else (layer,)
        with host.opened(layer) as opened:
            here = [
                number
                for number in layers
                if number == layer or sites.ATTN_OUT in opened.sites.maps[number].points
            ]
        wanted, points = [], []
        if steps >= 2:
            wanted = needed_sites(host, layer)
            tokens, positions = needed_points(host)
            points = [tokens, *positions]
        self.reading: PromptReading = read(host, ids, here, wanted, points)
        self._coded: dict[tuple[str, int], _Coded | None] = {}
        self._streams: dict[int, list[StreamPart]] = {}

    def _place(self, through: Through) -> None:
        if through.sae.transcodes:
            raise DataError(
                f"The SAE on {through.site} writes elsewhere than it reads.",
                "Attributions go through SAEs that reconstruct what they read.",
            )
        if parse_site(through.site).kind == sites.Z:
            key = sites.Z, parse_site(through.site).layer
        else:
            key = sites.RESID_PRE, stream_layer(through.site)
        if key in self._through:
            raise DataError(f"Two SAEs stand at blocks.{key[1]}.{key[0]}.", "Choose one of them.")
        self._through[key] = through

    def block(self, layer: int | None = None) -> BlockReading:
        return self.reading.blocks[self.layer if layer is None else layer]

    def stream_at(self, layer: int) -> Tensor:
        """The stream before a block, ``[S, D]``."""
        if layer in self.reading.blocks:
            return self.reading.blocks[layer].stream_SD
        return self.reading.values[str(Site(layer, sites.RESID_PRE))]

    def parts_of_stream(self, layer: int) -> list[StreamPart]:
        """What was written into the stream before a block; needs ``depth`` 2."""
        if layer not in self._streams:
            self._streams[layer] = stream_parts(
                self.host, layer, self.reading.values.__getitem__, self.reading.points.get
            )
        return self._streams[layer]

    def coded(self, kind: str, layer: int) -> _Coded | None:
        """The SAE there with its codes on the prompt; None where there is none."""
        key = kind, layer
        if key not in self._coded:
            through, coded = self._through.get(key), None
            if through is not None:
                z = kind == sites.Z
                acts_SD = self.block(layer).z_SZ if z else self.stream_at(layer)
                with torch.no_grad():
                    codes = through.sae.encode(acts_SD)
                    error_SD = acts_SD - through.sae.decode(codes, acts_SD)
                coded = _Coded(through.number, through.sae, codes, acts_SD, error_SD)
            self._coded[key] = coded
        return self._coded[key]

    def trace(self, sources: Sources, depth: int, listed: int) -> list[Part]:
        """The parts of a feature's pre-activation, its sources first, taken back ``depth`` steps
        further, those of the largest value first and at most ``MOST_STEPS`` of them.  Of each step
        the ``listed`` largest parts are told, the rest as one ``other``."""
        into_HV = sources.direction_Z.view(self.block().block.heads, -1)
        constants = [
            Part("b_V", float(sources.b_v_H.sum())),
            Part("b_enc", sources.b_enc),
            Part("b_dec", sources.b_dec),
        ]
        root = Part("feature", sources.pre, token=sources.token, layer=self.layer)
        found = self._sources(self.layer, sources.token, into_HV)
        root.parts = _told(root, [*found, *constants], listed)
        order = count()
        waiting: list[tuple[float, int, int, Part]] = []

        def put(parts: Iterable[Part], left: int) -> None:
            for part in parts:
                if part.step is not None and left > 0:
                    heapq.heappush(waiting, (-abs(part.value), next(order), left, part))

        put(root.parts, depth)
        for _ in range(MOST_STEPS):
            if not waiting:
                break
            _, _, left, part = heapq.heappop(waiting)
            assert part.step is not None
            part.parts = _told(part, part.step(), listed)
            put(part.parts, left - 1)
        return root.parts

    def _sources(self, layer: int, token: int, into_HV: Tensor) -> list[Part]:
        """The sources that a direction of z reads at a token, one part each."""
        block = self.block(layer)
        pattern_HS = block.pattern_HSS[:, token, : token + 1]
        along_HS = torch.einsum("hsv,hv->hs", block.value_HSV[:, : token + 1], into_HV)
        values = (pattern_HS * along_HS).sum(0).tolist()

        def step(source: int) -> Callable[[], list[Part]]:
            return lambda: self._behind(layer, source, pattern_HS[:, source, None] * into_HV)

        return [
            Part("source", value, token=source, layer=layer, step=step(source))
            for source, value in enumerate(values)
        ]

    def _values_bias(self, layer: int, token: int, into_HV: Tensor) -> Part:
        block = self.block(layer)
        pattern_HS = block.pattern_HSS[:, token, : token + 1]
        along_HS = torch.einsum("hsv,hv->hs", block.bias_HSV[:, : token + 1], into_HV)
        return Part("b_V", float((pattern_HS * along_HS).sum()))

    def _behind(self, layer: int, source: int, into_HV: Tensor) -> list[Part]:
        """A source's part, by the stream there."""
        block = self.block(layer)
        read_D, entry = block.value_direction(source, into_HV), block.block.entry
        parts = []
        if entry is not None:
            parts.append(Part("norm", float(read_D @ entry.shift)))
            read_D = entry.transposed(read_D, block.entry_inverse_S1[source])
        coded = self.coded(sites.RESID_PRE, layer)
        if coded is None:
            return [*parts, *self._written(layer, source, read_D)]
        return [*parts, *self._decoded(coded, layer, source, read_D, self._behind_stream)]

    def _decoded(
        self,
        coded: _Coded,
        layer: int,
        token: int,
        along: Tensor,
        behind: Callable[[_Coded, int, int, int, float, float], list[Part]],
    ) -> list[Part]:
        """What an SAE's features, error and bias are along a direction."""
        indices, values = coded.codes.indices[token], coded.codes.values[token]
        fires = values > 0
        indices, values = indices[fires], values[fires].float()
        weights = coded.sae.decoder_rows(indices) @ along

        def step(feature: int, weight: float, value: float) -> Callable[[], list[Part]]:
            return lambda: behind(coded, layer, token, feature, weight, value)

        features = [
            Part(
                *("feature", weight * value, token, layer, coded.number, feature, value),
                step=step(feature, weight, value),
            )
            for feature, weight, value in zip(
                indices.tolist(), weights.tolist(), values.tolist(), strict=True
            )
        ]
        return [
            *features,
            Part("error", float(coded.error_SD[token] @ along), token, layer, coded.number),
            Part("b_dec", float(coded.sae.b_dec.detach() @ along)),
        ]

    def _encoder(
        self, coded: _Coded, token: int, feature: int, weight: float, value: float
    ) -> tuple[Tensor, list[Part]]:
        """(the encoder's row times ``weight``, the parts that do not come from what it reads)."""
        latent = torch.tensor([feature], device=coded.acts_SD.device)
        row_FD, bias_F = coded.sae.encoder_rows(latent)
        row_D = row_FD[0].float()
        centre = float(coded.sae.centre(torch.zeros_like(row_D)[None])[0] @ row_D)
        bias = float(bias_F[0])
        pre = float(coded.acts_SD[token] @ row_D) + centre + bias
        parts = [Part("b_enc", weight * bias), Part("b_dec", weight * centre)]
        if abs(value - pre) > 1e-5 * max(abs(value), abs(pre)):
            parts.append(Part("encoder", weight * (value - pre)))
        return weight * row_D, parts

    def _behind_stream(
        self, coded: _Coded, layer: int, token: int, feature: int, weight: float, value: float
    ) -> list[Part]:
        along_D, constants = self._encoder(coded, token, feature, weight, value)
        return [*self._written(layer, token, along_D), *constants]

    def _behind_z(
        self, coded: _Coded, layer: int, token: int, feature: int, weight: float, value: float
    ) -> list[Part]:
        along_Z, constants = self._encoder(coded, token, feature, weight, value)
        into_HV = along_Z.view(self.block(layer).block.heads, -1)
        bias = self._values_bias(layer, token, into_HV)
        return [*self._sources(layer, token, into_HV), bias, *constants]

    def _written(self, layer: int, token: int, along_D: Tensor) -> list[Part]:
        """What was written into the stream before a block, along a direction."""
        parts = []
        for each in self.parts_of_stream(layer):
            value = float(each.vectors_SD[token] @ along_D)
            step = None
            if each.kind == "attention" and each.layer in self.reading.blocks:
                step = self._attention_step(each.layer, token, along_D)
            parts.append(Part(each.kind, value, token, each.layer, step=step))
        return parts

    def _attention_step(self, layer: int, token: int, along_D: Tensor) -> Callable[[], list[Part]]:
        return lambda: self._behind_attention(layer, token, along_D)

    def _behind_attention(self, layer: int, token: int, along_D: Tensor) -> list[Part]:
        """What attention of a block added along a direction, by its features or its sources."""
        reading = self.block(layer)
        block, parts = reading.block, []
        if block.exit is not None:
            parts.append(Part("norm", float(along_D @ block.exit.shift)))
            along_D = block.exit.transposed(along_D, reading.exit_inverse_S1[token])
        bias = block.out_bias()
        if bias is not None:
            parts.append(Part("b_O", float(along_D @ bias)))
        along_Z = block.out_weight() @ along_D
        coded = self.coded(sites.Z, layer)
        if coded is not None:
            return [*parts, *self._decoded(coded, layer, token, along_Z, self._behind_z)]
        into_HV = along_Z.view(block.heads, -1)
        bias_part = self._values_bias(layer, token, into_HV)
        return [*self._sources(layer, token, into_HV), bias_part, *parts]


_COUNTED: Mapping[PartKind, None] = dict.fromkeys(
    ("source", "feature", "embedding", "position", "attention", "mlp", "block")
)
"""What is listed by size; the rest, biases and errors, is always told."""


def _told(whole: Part, parts: Sequence[Part], listed: int) -> list[Part]:
    """The largest parts, the rest as one, and what the sum misses by rounding."""
    counted = sorted((p for p in parts if p.kind in _COUNTED), key=lambda p: -abs(p.value))
    always = [p for p in parts if p.kind not in _COUNTED and p.value != 0]
    told, rest = counted[:listed], counted[listed:]
    if rest:
        told.append(Part("other", sum(p.value for p in rest), count=len(rest)))
    told += always
    missing = whole.value - sum(part.value for part in told)
    if missing:
        told.append(Part("rounding", missing))
    return told
