"""The sites of one host model: which there are, where they are, and how each is edited."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from monosemy.errors import ModelError, UnknownSite
from monosemy.models import sites
from monosemy.models.architecture import BlockMap
from monosemy.models.hook_points import Edit, HookPoint
from monosemy.models.norms import FrozenNorm, Normalised
from monosemy.models.sites import Site, parse_site


class SiteMap:
    """The proven sites of a model that is called ``name``, block by block."""

    def __init__(self, name: str, maps: Sequence[BlockMap]) -> None:
        self.name, self.maps = name, maps

    def names(self) -> list[str]:
        """Every site of this model, block by block in the order of computation."""
        return [
            f"blocks.{layer}.{kind}"
            for layer, block in enumerate(self.maps)
            for kind in sites.KINDS
            if kind in block.points
        ]

    def width(self, site: str) -> int:
        """Length of the vectors at ``site``; ``UnknownSite`` lists what exists."""
        layer, kind = self.locate(site)
        return self.maps[layer].widths[kind]

    def locate(self, site: str) -> Site:
        parsed = parse_site(site)
        block = self.maps[parsed.layer] if parsed.layer < len(self.maps) else None
        if block is None or parsed.kind not in block.points:
            reason = None if block is None else block.absent.get(parsed.kind)
            why = "" if reason is None else f": {reason}"
            there = sites.what_exists({at: each.points for at, each in enumerate(self.maps)})
            raise UnknownSite(f"{self.name} has no site '{site}'{why}.", there)
        return parsed

    def point(self, site: str) -> HookPoint:
        layer, kind = self.locate(site)
        return self.maps[layer].points[kind]

    def points(self, layer: int) -> Mapping[str, HookPoint]:
        """The places of a block by kind of site."""
        return self.maps[layer].points

    def norm_before_mlp(self, layer: int) -> FrozenNorm:
        """Gain and shift between ``ln2.hook_normalized`` and ``mlp.hook_in``; ``UnknownSite``."""
        within = self.point(str(Site(layer, sites.LN2_NORMALIZED))).within
        assert isinstance(within, Normalised)
        return within.norm

    def heads(self, config: Any) -> int | None:
        """Attention heads of each block, where some block has them side by side at ``attn.hook_z``
        as the model's configuration says; None where nothing shows them."""
        count = getattr(config, "num_attention_heads", None)
        widths = [block.widths[sites.Z] for block in self.maps if sites.Z in block.points]
        if not isinstance(count, int) or count < 1 or not widths:
            return None
        return count if all(width % count == 0 for width in widths) else None

    def plan(self, edits: Mapping[str, Edit] | None) -> list[tuple[HookPoint, Edit]]:
        """The hooks that carry out edits by site, in the order in which sites are computed."""
        return [step for site, edit in self._in_order(edits) for step in self._hooks(site, edit)]

    def _in_order(self, edits: Mapping[str, Edit] | None) -> list[tuple[str, Edit]]:
        def depth(item: tuple[str, Edit]) -> tuple[int, int]:
            layer, kind = self.locate(item[0])
            return layer, sites.KINDS.index(kind)

        return sorted((edits or {}).items(), key=depth)

    def _hooks(self, site: str, edit: Edit) -> list[tuple[HookPoint, Edit]]:
        """The hooks that carry out one edit."""
        layer, kind = self.locate(site)
        points, mixed = self.maps[layer].points, self.maps[layer].mixed
        checked = _checked(site, edit)
        if kind != sites.RESID_MID or mixed is None:
            return [(points[kind], checked)]
        # The stream between attention and MLP is added up inside the block and read twice, by the
        # norm and by the MLP's own addition: only a change of attention's summand reaches both.
        entered: list[Tensor] = []

        def remember(resid_pre: Tensor) -> Tensor:
            entered[:] = [resid_pre]
            return resid_pre

        def shift(attn_out: Tensor) -> Tensor:
            return checked(entered[0] + attn_out) - entered[0]

        return [(points[sites.RESID_PRE], remember), (mixed, shift)]


def _checked(site: str, edit: Callable[[Tensor], Tensor]) -> Edit:
    def apply(value: Tensor) -> Tensor:
        new = edit(value)
        if new.shape != value.shape:
            raise ModelError(
                f"The edit of {site} returned {tuple(new.shape)} for {tuple(value.shape)}."
            )
        # A copy: models may add to it in place, and an edit may return a view or keep its tensor.
        return torch.empty_like(value).copy_(new)

    return apply
