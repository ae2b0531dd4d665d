"""One prompt read by a host model, with its attention taken apart and its norms held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from monosemy.attribution.attention import AttentionBlock, attention_blocks
from monosemy.attribution.attention_calls import AttentionCall, AttentionCalls
from monosemy.errors import DataError, ModelError
from monosemy.figures import plural
from monosemy.models import sites as kinds
from monosemy.models.hook_points import HookPoint, Recorder
from monosemy.models.host import HostModel
from monosemy.models.norms import FrozenNorm
from monosemy.models.sites import Site, parse_site


@dataclass(frozen=True)
class BlockReading:
    """Attention of one block on a prompt of S tokens, float32 on the model's device.

    Values are told without their bias: what a source adds then depends on the source alone.
    """

    block: AttentionBlock
    call: AttentionCall
    stream_SD: Tensor
    """What the block reads."""
    z_SZ: Tensor

    @cached_property
    def pattern_HSS(self) -> Tensor:
        """``[head, token, source]``."""
        return self.call.pattern_of()[0]

    @cached_property
    def value_HSV(self) -> Tensor:
        """Values without bias."""
        return self.call.spread(self.call.value_BGSV)[0].float() - self.bias_HSV

    @cached_property
    def bias_HSV(self) -> Tensor:
        """What the values have of biases, at every source."""
        value = self.block.value
        bias_SN = value.bias().expand(len(self.z_SZ), -1)
        bias_SHV = value.part(bias_SN, self.value_inverse) + value.shift()
        return bias_SHV.transpose(0, 1)

    @cached_property
    def normed_SD(self) -> Tensor:
        """What the projections read."""
        return _behind(self.block.entry, self.stream_SD)

    @cached_property
    def entry_inverse_S1(self) -> Tensor:
        """``1 / sigma`` of the norm before the projections; ones where there is none."""
        return _inverse(self.block.entry, self.stream_SD)

    @cached_property
    def exit_inverse_S1(self) -> Tensor:
        """``1 / sigma`` of the norm behind W_O; ones where there is none."""
        return _inverse(self.block.exit, self.projected_SD)

    @cached_property
    def projected_SD(self) -> Tensor:
        """``z @ W_O + b_O``."""
        bias = self.block.out_bias()
        made = self.z_SZ @ self.block.out_weight()
        return made if bias is None else made + bias

    @cached_property
    def value_inverse(self) -> Tensor | None:
        """``1 / sigma`` of the norm on the values; None where there is none."""
        if self.block.value.norm is None:
            return None
        raw_SN = self.normed_SD @ self.block.value.weight() + self.block.value.bias()
        return self.block.value.inverse(raw_SN)

    def value_direction(self, source: int, into_HV: Tensor) -> Tensor:
        """The direction ``[D]`` of what the projections read at a source that counts as much as
        its values do along ``into_HV``, a vector for each head."""
        value = self.block.value
        inverse = None if self.value_inverse is None else self.value_inverse[source]
        return value.transposed(into_HV.flatten(), inverse, value.weight())


@dataclass(frozen=True)
class PromptReading:
    """What one forward of a prompt gave."""

    ids_S: Tensor
    blocks: dict[int, BlockReading]
    values: dict[str, Tensor]
    """Activations ``[S, width]`` at the sites asked for, float32."""
    points: dict[HookPoint, Tensor]
    """The same at the places asked for."""


def read(
    host: HostModel,
    ids: Sequence[int],
    layers: Iterable[int],
    sites: Iterable[str] = (),
    points: Iterable[HookPoint] = (),
) -> PromptReading:
    """Reads a prompt once: attention of ``layers``, and activations at ``sites`` and ``points``.

    Raises ``ModelError`` for attention that cannot be taken apart, ``UnknownSite``, and
    ``DataError`` for a prompt of one token, or one that the model cannot read.
    """
    check_prompt(host, ids)
    return read_rows(host, torch.tensor([list(ids)]), layers, sites, points)[0]


def read_rows(
    host: HostModel,
    ids_BS: Tensor,
    layers: Iterable[int],
    sites: Iterable[str] = (),
    points: Iterable[HookPoint] = (),
) -> list[PromptReading]:
    """The same of several prompts of one length, in one forward."""
    blocks = attention_blocks(host, layers)
    check_prompt(host, ids_BS[0].tolist())
    host.check_ids(ids_BS)
    named = {site: parse_site(site) for site in sites}
    for layer in blocks:
        for kind in (kinds.RESID_PRE, kinds.Z):
            named[str(Site(layer, kind))] = Site(layer, kind)
    deepest = max((place.layer for place in named.values()), default=0)
    shape = int(ids_BS.shape[0]), int(ids_BS.shape[1])
    with host.opened(deepest) as opened, torch.no_grad(), ExitStack() as stack:
        at = {site: opened.sites.point(site) for site in named}
        attentions = {block.attention: layer for layer, block in blocks.items()}
        recorder = stack.enter_context(Recorder([*at.values(), *points], shape))
        watch = stack.enter_context(AttentionCalls(attentions))
        opened.core(input_ids=ids_BS.to(host.device), use_cache=False)
    calls = {}
    for layer in blocks:
        call = watch.one(layer)
        if call is None:
            raise ModelError(f"Attention in blocks.{layer} of {host.name} was not seen at work.")
        calls[layer] = call
    results = []
    for row in range(shape[0]):
        values = {site: recorder.values[point][row].float() for site, point in at.items()}
        readings = {}
        for layer, block in blocks.items():
            stream, z = (values[str(Site(layer, kind))] for kind in (kinds.RESID_PRE, kinds.Z))
            readings[layer] = BlockReading(block, calls[layer].row(row), stream, z)
        others = {point: recorder.values[point][row].float() for point in points}
        results.append(PromptReading(ids_BS[row], readings, values, others))
    return results


def check_prompt(host: HostModel, ids: Sequence[int]) -> None:
    """``DataError`` for a prompt in which no token can look back, or that is too long."""
    if len(ids) < 2:
        raise DataError(
            f"The prompt has {len(ids)} token; attention needs at least 2.",
            "Send a longer text.",
        )
    limit = host.abilities.positions
    if limit is not None and len(ids) > limit:
        raise DataError(
            f"The prompt has {plural(len(ids), 'token')}; {host.name} reads {limit} at once."
        )


def _behind(norm: FrozenNorm | None, x_SD: Tensor) -> Tensor:
    if norm is None:
        return x_SD
    dtype = next((each.dtype for each in norm.module.parameters()), x_SD.dtype)
    with torch.no_grad():
        given: Tensor = norm.module.forward(x_SD[None].to(dtype))[0]
    return given.float()


def _inverse(norm: FrozenNorm | None, x_SD: Tensor) -> Tensor:
    return x_SD.new_ones(len(x_SD), 1) if norm is None else norm.inverse(x_SD, _behind(norm, x_SD))
