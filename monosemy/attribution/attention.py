"""Attention of a host model's blocks as parts that are proved: values, pattern, queries, keys.

A block's parts are found and proved on a few tokens, once for each host model
(``attention_blocks``), by identities:

    pattern @ values = attn.hook_z,   z @ W_O + b_O = attn_out (before a sandwich norm),
    values  = normed stream @ W_V + b_V,
    pattern = softmax(cap(scale * queries . keys) + mask),
    queries = turned(norm?(normed stream @ W_Q + b_Q)),   keys likewise.

Shared keys, fused layers, biases, rotations, norms of queries and keys, sliding windows, soft caps
and scales are inside of these.  What cannot be proved is refused by name (``ModelError``): a block
without the first three has no attribution, one without the last two none of its scores.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from monosemy.attribution.attention_calls import AttentionCall, AttentionCalls
from monosemy.attribution.projections import (
    ROWS,
    NormSeen,
    Projection,
    find_projection,
    linear_layers,
    norm_layers,
)
from monosemy.attribution.rotations import Pairing, distance, find_pairing
from monosemy.errors import ModelError
from monosemy.models import sites
from monosemy.models.architecture import BlockMap, linear_weight, text_config
from monosemy.models.hook_points import Editor, HookPoint, Recorder
from monosemy.models.host import HostModel, OpenHost
from monosemy.models.norms import FrozenNorm, frozen_norm

TOLERANCE = {torch.float32: 2e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest error of an identity, as a share of the norm.  What is none misses by .1 or more."""

_PROOF_TOKENS = 24
_PROBE_TOKENS = 2


@dataclass(frozen=True)
class Scores:
    """How queries and keys of a block come about and become scores."""

    query: Projection
    key: Projection
    query_pairs: Pairing
    key_pairs: Pairing
    scale: float
    cap: float | None
    """Scores become ``cap * tanh(score / cap)`` before the softmax."""


@dataclass(frozen=True)
class AttentionBlock:
    """The proven parts of one block's attention."""

    layer: int
    attention: nn.Module
    heads: int
    width: int
    """Numbers of ``attn.hook_z`` that belong to one head."""
    entry: FrozenNorm | None
    """The norm between the stream and the projections; None where they read the stream itself."""
    value: Projection
    out: nn.Module
    """W_O and b_O."""
    exit: FrozenNorm | None
    """A sandwich norm between W_O and the stream."""
    scores: Scores | None
    no_scores: str | None
    """Why its scores cannot be taken apart; None where they can."""

    def out_weight(self) -> Tensor:
        """W_O, ``[heads * width, D]`` float32."""
        return linear_weight(self.out).detach().float()

    def out_bias(self) -> Tensor | None:
        bias = getattr(self.out, "bias", None)
        return None if bias is None else bias.detach().float()

    def need_scores(self, host_name: str) -> Scores:
        """``ModelError`` with the reason where there are none."""
        if self.scores is None:
            raise ModelError(
                f"The scores of attention in blocks.{self.layer} of {host_name} cannot be taken "
                f"apart: {self.no_scores}.",
                "Attribution by head and source does not need them.",
            )
        return self.scores


class _NotProved(Exception):
    """Its text says what is not as it should be."""


_PROVED: WeakKeyDictionary[HostModel, dict[int, AttentionBlock | str]] = WeakKeyDictionary()
_LOCK = threading.Lock()


def attention_blocks(host: HostModel, layers: Iterable[int]) -> dict[int, AttentionBlock]:
    """The proven parts of these blocks; ``ModelError`` names what cannot be proved.

    Two small forwards for those that are asked for the first time.
    """
    wanted = sorted(set(layers))
    with _LOCK:
        known = _PROVED.setdefault(host, {})
        new = [layer for layer in wanted if layer not in known]
        if new:
            known.update(_prove(host, new))
        found = {layer: known[layer] for layer in wanted}
    blocks = {}
    for layer, block in found.items():
        if isinstance(block, str):
            raise ModelError(
                f"Attention in blocks.{layer} of {host.name} cannot be taken apart: {block}.",
                "Attribution needs softmax attention whose values are a linear function of the "
                "normed stream.",
            )
        blocks[layer] = block
    return blocks


def _prove(host: HostModel, layers: Sequence[int]) -> dict[int, AttentionBlock | str]:
    result: dict[int, AttentionBlock | str] = {}
    with host.opened(max(layers)) as opened, torch.no_grad():
        maps = {}
        for layer in layers:
            reason = _unlike(opened.sites.maps[layer])
            if reason is None:
                maps[layer] = opened.sites.maps[layer]
            else:
                result[layer] = reason
        if not maps:
            return result
        probe = _Seen(host, opened, maps, random=True)
        proof = _Seen(host, opened, maps, random=False)
        for layer in maps:
            try:
                result[layer] = _block(host, layer, maps[layer], probe, proof)
            except _NotProved as reason:
                result[layer] = str(reason)
    return result


def _unlike(block: BlockMap) -> str | None:
    if block.attention is None:
        return "it has no attention"
    missing = [kind for kind in (sites.Z, sites.ATTN_OUT) if kind not in block.points]
    return f"it has no site {missing[0]}" if missing else None


class _Seen:
    """One small forward: what attention was called with, and what its layers took and gave."""

    def __init__(
        self, host: HostModel, opened: OpenHost, maps: dict[int, BlockMap], random: bool
    ) -> None:
        rows, length = (ROWS, _PROBE_TOKENS) if random else (1, _PROOF_TOKENS)
        if host.abilities.positions is not None:
            length = min(length, host.abilities.positions)
        self.shape = rows, length
        generator = torch.Generator().manual_seed(3)
        ids_BS = torch.randint(host.d_vocab, self.shape, generator=generator).to(host.device)
        self.linears = {
            layer: linear_layers(block.attention, block.points[sites.Z].module)
            for layer, block in maps.items()
            if block.attention is not None
        }
        points = set()
        for layer, block in maps.items():
            assert block.attention is not None
            points |= set(block.points.values())
            points |= {HookPoint(block.points[sites.ATTN_OUT].module, "input")}
            points |= {HookPoint(block.points[sites.Z].module, "output")}
            near = [*norm_layers(block.attention), *_norms_of(block.block)]
            for module in (*self.linears[layer], *near):
                points |= {HookPoint(module, "input"), HookPoint(module, "output")}

        def noise(value: Tensor) -> Tensor:
            return torch.randn(value.shape, generator=generator).to(value)

        edits = [
            (HookPoint(module, "input"), noise)
            for modules in self.linears.values()
            for module in modules
            if random
        ]
        attentions = {
            block.attention: layer for layer, block in maps.items() if block.attention is not None
        }
        self.watch = AttentionCalls(attentions)
        recorder = Recorder(points, self.shape, stop_when_full=False)
        stop = Recorder([maps[max(maps)].points[sites.RESID_POST]], self.shape, stop_when_full=True)
        with stop, recorder, Editor(edits, self.shape), self.watch:
            opened.core(input_ids=ids_BS, use_cache=False)
        self.values = recorder.values

    def at(self, module: nn.Module, side: str) -> Tensor | None:
        return self.values.get(HookPoint(module, side))  # type: ignore[arg-type]

    def call(self, layer: int) -> AttentionCall:
        call = self.watch.one(layer)
        if call is None:
            raise _NotProved(
                f"it uses softmax attention {len(self.watch.calls[layer])} times where it can be "
                "seen, not once"
            )
        return call


def _norms_of(block: nn.Module) -> list[nn.Module]:
    return [each for each in block.children() if "norm" in type(each).__name__.lower()]


def _block(
    host: HostModel, layer: int, block: BlockMap, probe: _Seen, proof: _Seen
) -> AttentionBlock:
    call = proof.call(layer)
    allowed = TOLERANCE.get(host.dtype, 2e-5)
    out = block.points[sites.Z].module
    z_SZ = proof.values[block.points[sites.Z]][0].float()
    value_HSV = call.spread(call.value_BGSV)[0].float()
    made_SZ = (call.pattern_of()[0] @ value_HSV).transpose(0, 1).flatten(1)
    if made_SZ.shape != z_SZ.shape or not distance(made_SZ, z_SZ) <= allowed:
        raise _NotProved(
            "what enters its output projection is not the pattern times the values (a gate or a "
            "norm between them)"
        )
    exit_norm = _exit(host, block, proof, z_SZ, allowed)
    value = _find(layer, "values", block, probe)
    entry, normed_SD = _entry(host, block, value.module, proof)
    if not distance(_heads(value, normed_SD), value_HSV.transpose(0, 1)) <= allowed:
        raise _NotProved("its values are no linear function of the normed stream")
    scores, reason = None, None
    try:
        scores = _scores(host, layer, block, probe, proof, entry)
    except _NotProved as fault:
        reason = str(fault)
    assert block.attention is not None
    return AttentionBlock(
        layer=layer,
        attention=block.attention,
        heads=call.heads,
        width=int(value_HSV.shape[-1]),
        entry=entry,
        value=value,
        out=out,
        exit=exit_norm,
        scores=scores,
        no_scores=reason,
    )


def _exit(
    host: HostModel, block: BlockMap, proof: _Seen, z_SZ: Tensor, allowed: float
) -> FrozenNorm | None:
    """The norm behind W_O, proved to lead to what is added to the stream."""
    out, branch = block.points[sites.Z].module, block.points[sites.ATTN_OUT]
    bias = getattr(out, "bias", None)
    made_SD = z_SZ @ linear_weight(out).float() + (0 if bias is None else bias.float())
    added_SD = proof.values[branch][0].float()
    if made_SD.shape == added_SD.shape and distance(made_SD, added_SD) <= allowed:
        return None
    before = proof.at(branch.module, "input")
    norm = frozen_norm(branch.module, (host.d_model,), host.device)
    if before is not None and norm is not None and distance(made_SD, before[0].float()) <= allowed:
        inverse = norm.inverse(made_SD, added_SD)
        if distance(norm.linear(made_SD, inverse) + norm.shift, added_SD) <= allowed:
            return norm
    raise _NotProved("what it adds to the stream is not its heads through W_O")


def _entry(
    host: HostModel, block: BlockMap, projection: nn.Module, proof: _Seen
) -> tuple[FrozenNorm | None, Tensor]:
    """(the norm between the stream and a projection or None, what the projection takes)."""
    taken = proof.at(projection, "input")
    stream = proof.values[block.points[sites.RESID_PRE]]
    if taken is None or taken.shape != stream.shape:
        raise _NotProved("its projections do not read the stream")
    if torch.equal(taken, stream):
        return None, taken[0].float()
    for module in _norms_of(block.block):
        before, after = proof.at(module, "input"), proof.at(module, "output")
        if before is None or after is None or not torch.equal(before, stream):
            continue
        if torch.equal(after, taken):
            norm = frozen_norm(module, (host.d_model,), host.device)
            if norm is None:
                raise _NotProved(f"its {type(module).__name__} is not linear with sigma held")
            return norm, taken[0].float()
    raise _NotProved("its projections read something else than the stream or its norm")


def _heads(projection: Projection, normed_SD: Tensor) -> Tensor:
    """``[S, H, E]``: heads of a projection before any rotation."""
    raw_SN = normed_SD @ projection.weight() + projection.bias()
    return projection.part(raw_SN, projection.inverse(raw_SN)) + projection.shift()


def _find(layer: int, what: str, block: BlockMap, probe: _Seen) -> Projection:
    call = probe.call(layer)
    used = {"values": call.value_BGSV, "queries": call.query_BHSE, "keys": call.key_BGSE}[what]
    used_BHSE = call.spread(used)
    if len(used_BHSE) != ROWS:
        raise _NotProved(f"the rows of its {what} are not told apart")
    outputs = {
        module: output[:, 0]
        for module in probe.linears[layer]
        if (output := probe.at(module, "output")) is not None and output.ndim == 3
    }
    norms: list[NormSeen] = []
    assert block.attention is not None
    for module in norm_layers(block.attention):
        taken, given = probe.at(module, "input"), probe.at(module, "output")
        if taken is None or given is None or len(taken) != ROWS or taken.shape != given.shape:
            continue
        # Heads stand behind the tokens, or before them.
        norms += [
            NormSeen(module, taken.select(axis, 0), given.select(axis, 0))
            for axis in range(1, taken.ndim - 1)
            if taken.shape[axis] == _PROBE_TOKENS
        ]
    found = find_projection(used_BHSE[:, :, 0], outputs, norms)
    if found is None:
        raise _NotProved(f"its {what} are not the output of one linear layer")
    return found


def _scores(
    host: HostModel,
    layer: int,
    block: BlockMap,
    probe: _Seen,
    proof: _Seen,
    entry: FrozenNorm | None,
) -> Scores:
    call, allowed = proof.call(layer), TOLERANCE.get(host.dtype, 2e-5)
    scale, cap = _scale(host, call, allowed)
    found, pairs = {}, {}
    for what, used in (("queries", call.query_BHSE), ("keys", call.key_BGSE)):
        projection = _find(layer, what, block, probe)
        own_entry, normed_SD = _entry(host, block, projection.module, proof)
        if (own_entry and own_entry.module) is not (entry and entry.module):
            raise _NotProved(f"its {what} read the stream through another norm than its values")
        before_SHE = _heads(projection, normed_SD)
        after_SHE = call.spread(used)[0].transpose(0, 1).float()
        pairing = find_pairing(before_SHE, after_SHE, allowed)
        if pairing is None:
            raise _NotProved(f"its {what} are no rotation of a linear function of the stream")
        found[what], pairs[what] = projection, pairing
    return Scores(found["queries"], found["keys"], pairs["queries"], pairs["keys"], scale, cap)


def _scale(host: HostModel, call: AttentionCall, allowed: float) -> tuple[float, float | None]:
    """(factor, soft cap) that make the scores of the products; proved on every token seen."""
    products, seen = call.products(), call.seen()
    if call.scores is None:
        if call.mask is not None and call.mask.dtype != torch.bool:
            mask = call.mask.masked_fill(~seen.expand_as(call.mask), 0.0)
            if bool(mask.any()):
                raise _NotProved("it adds a bias of its own to its scores (as ALiBi does)")
        return float(call.scale or 0.0), None
    own, scores = products[seen.expand_as(products)], call.scores.float()
    scores = scores[seen.expand_as(scores)]
    for cap in (None, *_caps(host)):
        raw = scores if cap is None else cap * (scores / cap).clamp(-0.999999, 0.999999).atanh()
        factor = float((raw * own).sum() / own.square().sum().clamp_min(1e-30))
        made = factor * own
        if distance(made if cap is None else cap * (made / cap).tanh(), scores) <= allowed:
            return factor, cap
    raise _NotProved(
        "its scores are not the products of queries and keys up to a scale, a mask and a soft cap"
    )


def _caps(host: HostModel) -> list[float]:
    """Numbers of the configuration that may be soft caps: names with 'cap'; proved by their use."""
    config = text_config(host.model).to_dict()
    return [
        float(value)
        for name, value in config.items()
        if "cap" in name and isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
