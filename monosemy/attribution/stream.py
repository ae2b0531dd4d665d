"""The residual stream before a block as the sum of what was written into it.

``embedding + position + sum of attn_out and mlp_out`` of the blocks below.  A block whose two
branches are not told apart counts as one part, what it adds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from monosemy.attribution.attention import TOLERANCE
from monosemy.attribution.rotations import distance
from monosemy.models import sites
from monosemy.models.hook_points import HookPoint
from monosemy.models.host import HostModel
from monosemy.models.sites import Site

StreamKind = Literal["embedding", "position", "attention", "mlp", "block"]


@dataclass(frozen=True)
class StreamPart:
    """Something that was written into the stream, at every token."""

    kind: StreamKind
    layer: int | None
    vectors_SD: Tensor


def needed_sites(host: HostModel, layer: int) -> list[str]:
    """The sites from which ``stream_parts`` makes the stream before block ``layer``."""
    with host.opened(layer) as opened:
        maps = opened.sites.maps[:layer]
    wanted = [Site(0, sites.RESID_PRE), Site(layer, sites.RESID_PRE)]
    for number, block in enumerate(maps):
        apart = sites.ATTN_OUT in block.points and sites.MLP_OUT in block.points
        branches = (sites.ATTN_OUT, sites.MLP_OUT) if apart else (sites.RESID_PRE, sites.RESID_POST)
        wanted += [Site(number, kind) for kind in branches]
    return list(dict.fromkeys(map(str, wanted)))


def needed_points(host: HostModel) -> tuple[HookPoint, list[HookPoint]]:
    """(the output of the token embedding, those of embeddings of positions beside it)."""
    with host.opened(0) as opened:
        tokens: nn.Module = opened.model.get_input_embeddings()
        positions = [
            HookPoint(each, "output")
            for each in opened.trunk.owner.children()
            if isinstance(each, nn.Embedding) and each is not tokens
        ]
    return HookPoint(tokens, "output"), positions


def stream_parts(
    host: HostModel,
    layer: int,
    value_of: Callable[[str], Tensor],
    point_of: Callable[[HookPoint], Tensor | None],
) -> list[StreamPart]:
    """The parts of the stream before block ``layer``, ``[S, D]`` each, embedding first."""
    parts = _embedding(host, value_of(str(Site(0, sites.RESID_PRE))), point_of)
    names = set(needed_sites(host, layer))
    for number in range(layer):
        attention, mlp = (Site(number, kind) for kind in (sites.ATTN_OUT, sites.MLP_OUT))
        if str(attention) in names:
            parts.append(StreamPart("attention", number, value_of(str(attention))))
            parts.append(StreamPart("mlp", number, value_of(str(mlp))))
        else:
            before, after = (Site(number, kind) for kind in (sites.RESID_PRE, sites.RESID_POST))
            added = value_of(str(after)) - value_of(str(before))
            parts.append(StreamPart("block", number, added))
    return parts


def _embedding(
    host: HostModel, first_SD: Tensor, point_of: Callable[[HookPoint], Tensor | None]
) -> list[StreamPart]:
    """Tokens and positions apart where their sum is what block 0 reads; else one part."""
    tokens, positions = needed_points(host)
    token_SD = point_of(tokens)
    placed = [value for point in positions if (value := point_of(point)) is not None]
    if token_SD is not None and token_SD.shape == first_SD.shape:
        position_SD = torch.stack(placed).sum(0) if placed else torch.zeros_like(first_SD)
        if position_SD.shape == first_SD.shape:
            rest = first_SD - position_SD
            # Some families scale the embedding of tokens.
            scale = float((rest * token_SD).sum() / token_SD.square().sum().clamp_min(1e-30))
            allowed = TOLERANCE.get(host.dtype, 2e-5)
            if distance(scale * token_SD, rest) <= allowed:
                parts = [StreamPart("embedding", None, rest)]
                return [*parts, StreamPart("position", None, position_SD)] if placed else parts
    return [StreamPart("embedding", None, first_SD)]
