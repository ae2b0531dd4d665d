"""Which modules of a Hugging Face causal LM play which role: found by structure, then proved.

Names differ between families (``self_attn``/``attention``, ``o_proj``/``dense``/``c_proj``), and so
do the norms (before, after, both sides).  Names only give candidates here; ``prove`` runs the model
once on a few tokens and keeps the candidates whose numbers fulfil the definition of the site:

    resid_mid = resid_pre + attn_out,  resid_post = resid_mid + mlp_out   (sequential blocks)
    resid_post = resid_pre + attn_out + mlp_out                           (parallel blocks)

and, around the MLP, those of ``mlp_sites``.  What cannot be proved is not offered.  This costs one
forward of eight tokens, with each MLP run once more, and needs neither a list of architectures nor
an import of TransformerLens, whose names and meanings it shares.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from monosemy.errors import ModelError
from monosemy.models import sites
from monosemy.models.hook_points import HookPoint, Recorder
from monosemy.models.mlp_sites import mlp_sites

_ATTENTION = ("self_attn", "attn", "attention", "self_attention")
_OTHER_MIXERS = ("linear_attn", "mamba", "mixer", "temporal_block", "short_conv", "conv")
_MLP = ("mlp", "feed_forward", "ffn", "mlp_block", "block_sparse_moe", "moe")
_OUT_PROJECTION = ("o_proj", "out_proj", "c_proj", "dense", "wo", "out_lin")
_DOWN_PROJECTION = ("down_proj", "c_proj", "dense_4h_to_h", "fc2", "fc_out", "proj_out", "w2", "wo")
_BARE_DOWN_PROJECTION = ("fc2",)  # OPT keeps the MLP's layers in the block itself.
_FINAL_NORM = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "final_norm", "norm_f")

PROBE_TOKENS = 8


class Trunk(NamedTuple):
    """The blocks of a model, the module that owns them and the norm after the last of them."""

    owner: nn.Module
    blocks: nn.ModuleList
    final_norm: nn.Module | None


@dataclass
class BlockMap:
    """Where the sites of one block are.

    ``attention`` is the module that mixes tokens by attention, where a name shows one; ``points``
    maps a kind of site to its place; ``mixed`` is what attention (or the state-space or
    linear-attention layer in its stead) adds to the stream, where ``hook_resid_mid`` exists;
    ``absent`` says of kinds why they are not there, where that is known.
    """

    block: nn.Module
    attention: nn.Module | None = None
    points: dict[str, HookPoint] = field(default_factory=dict)
    mixed: HookPoint | None = None
    widths: dict[str, int] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


def text_config(model: nn.Module) -> Any:
    """The configuration of the language model, also within a multimodal one."""
    config: Any = model.config
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def find_trunk(model: nn.Module) -> Trunk:
    """The outermost ModuleList of ``num_hidden_layers`` blocks; ``ModelError`` where none is."""
    config = text_config(model)
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(
            f"{type(model).__name__} is an encoder-decoder; only causal language models are hooked."
        )
    depth = getattr(config, "num_hidden_layers", None)
    for owner in model.modules():
        for child in owner.children():
            if isinstance(child, nn.ModuleList) and len(child) == depth and _has_roles(child):
                return Trunk(owner, child, _child(owner, _FINAL_NORM))
    raise ModelError(
        f"{type(model).__name__} has no list of {depth} transformer blocks.",
        f"Blocks hold one of {', '.join((*_ATTENTION, *_OTHER_MIXERS, *_MLP))}.",
    )


def _has_roles(blocks: nn.ModuleList) -> bool:
    names = (*_ATTENTION, *_OTHER_MIXERS, *_MLP)
    return any(_child(block, names) is not None for block in blocks)


def _child(module: nn.Module, names: tuple[str, ...]) -> nn.Module | None:
    for name in names:
        child = getattr(module, name, None)
        if isinstance(child, nn.Module):
            return child
    return None


def _projection(module: nn.Module | None, names: tuple[str, ...]) -> nn.Module | None:
    """The linear layer of one of these names, in ``module`` or one level below (GPT-Neo)."""
    if module is None:
        return None
    for place in (module, *module.children()):
        for name in names:
            projection = getattr(place, name, None)
            if is_linear(projection):
                return projection
    return None


def is_linear(module: Any) -> bool:
    """True for ``nn.Linear`` and for transformers' transposed twin ``Conv1D``."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def linear_weight(module: nn.Module) -> Tensor:
    """Weight of a linear layer as ``[in, out]``."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight if type(module).__name__ == "Conv1D" else weight.T


@dataclass
class _Candidates:
    """Places of one block that may turn out to be its sites."""

    block: nn.Module
    norms: list[nn.Module]
    attention: nn.Module | None
    other_mixer: nn.Module | None
    out_projection: nn.Module | None
    mlp: nn.Module | None
    down_projection: nn.Module | None

    def middle(self) -> list[HookPoint]:
        places = [*self.norms, self.mlp]
        return [HookPoint(module, "input") for module in places if module is not None]

    def added(self, own: tuple[nn.Module | None, ...]) -> list[HookPoint]:
        """What may be added to the stream: a norm's output first (sandwich), then ``own``."""
        return [HookPoint(module, "output") for module in (*self.norms, *own) if module is not None]

    @property
    def mixer(self) -> nn.Module | None:
        return self.attention or self.other_mixer

    def attention_out(self) -> list[HookPoint]:
        return self.added((self.mixer, self.out_projection))

    def mlp_out(self) -> list[HookPoint]:
        return self.added((self.mlp, self.down_projection))

    def all(self) -> Iterator[HookPoint]:
        yield HookPoint(self.block, "input")
        yield HookPoint(self.block, "output")
        yield from self.middle()
        if self.mixer is not None:
            yield HookPoint(self.mixer, "input")
        yield from self.attention_out()
        yield from self.mlp_out()
        for projection in (self.out_projection, self.down_projection):
            if projection is not None:
                yield HookPoint(projection, "input")
                yield HookPoint(projection, "output")


def _candidates(block: nn.Module) -> _Candidates:
    attention, mlp = _child(block, _ATTENTION), _child(block, _MLP)
    down = _projection(mlp, _DOWN_PROJECTION)
    if mlp is None:
        bare = _child(block, _BARE_DOWN_PROJECTION)
        mlp = down = bare if is_linear(bare) else None
    return _Candidates(
        block=block,
        norms=[child for child in block.children() if "norm" in type(child).__name__.lower()],
        attention=attention,
        other_mixer=_child(block, _OTHER_MIXERS),
        out_projection=_projection(attention, _OUT_PROJECTION),
        mlp=mlp,
        down_projection=down,
    )


def prove(model: nn.Module, trunk: Trunk, d_model: int, d_vocab: int) -> list[BlockMap]:
    """One ``BlockMap`` per block, with those sites only that a small forward confirms."""
    candidates = [_candidates(block) for block in trunk.blocks]
    points = {point for item in candidates for point in item.all()}
    device = next(model.parameters()).device
    ids = (torch.arange(PROBE_TOKENS, device=device) * 7919 + 11)[None] % d_vocab
    shape = (1, PROBE_TOKENS)
    with Recorder(points, shape, stop_when_full=False) as recorder, torch.no_grad():
        model(input_ids=ids, use_cache=False)
    maps = [_map_block(item, recorder.values, d_model) for item in candidates]
    if not any(item.points for item in maps):
        raise ModelError(
            f"The blocks of {type(model).__name__} carry no plain residual stream of width "
            f"{d_model}, so nothing in it can be hooked."
        )
    return maps


def _map_block(candidates: _Candidates, values: dict[HookPoint, Tensor], d_model: int) -> BlockMap:
    result = BlockMap(candidates.block, candidates.attention)
    pre, post = HookPoint(candidates.block, "input"), HookPoint(candidates.block, "output")
    if not all(point in values and values[point].shape[-1] == d_model for point in (pre, post)):
        return result
    if values[pre].ndim != 3 or values[post].shape != values[pre].shape:
        return result
    result.points |= {sites.RESID_PRE: pre, sites.RESID_POST: post}
    result.points |= _sequential(candidates, values) or _parallel(candidates, values)
    result.mixed = result.points.get(sites.ATTN_OUT)
    if candidates.attention is None:
        result.points.pop(sites.ATTN_OUT, None)
    if sites.ATTN_OUT in result.points:
        branch = result.points[sites.ATTN_OUT]
        _add_projection(result, sites.Z, candidates.out_projection, branch, values)
    if sites.MLP_OUT in result.points:
        branch = result.points[sites.MLP_OUT]
        _add_projection(result, sites.MLP_POST, candidates.down_projection, branch, values)
        _add_mlp(result, candidates, branch, values)
    result.widths = {
        kind: d_model if point.within else values[point].shape[-1]
        for kind, point in result.points.items()
    }
    return result


def _add_mlp(
    result: BlockMap,
    candidates: _Candidates,
    branch: HookPoint,
    values: dict[HookPoint, Tensor],
) -> None:
    """Adds what the MLP reads and gives; of a block that keeps its layers in itself nothing."""
    mlp = candidates.mlp
    if mlp is None or mlp is candidates.down_projection:
        return
    around = mlp_sites(mlp, candidates.mixer, candidates.norms, branch, values)
    result.points |= around.points
    result.absent |= around.absent


def _sequential(candidates: _Candidates, values: dict[HookPoint, Tensor]) -> dict[str, HookPoint]:
    pre, post = (
        values[HookPoint(candidates.block, "input")],
        values[HookPoint(candidates.block, "output")],
    )
    for mid in candidates.middle():
        if mid not in values or values[mid].shape != pre.shape:
            continue
        attn = _summand(candidates.attention_out(), pre, values[mid], values)
        mlp = _summand(candidates.mlp_out(), values[mid], post, values)
        if attn is not None and mlp is not None:
            return {sites.RESID_MID: mid, sites.ATTN_OUT: attn, sites.MLP_OUT: mlp}
    return {}


def _parallel(candidates: _Candidates, values: dict[HookPoint, Tensor]) -> dict[str, HookPoint]:
    pre, post = (
        values[HookPoint(candidates.block, "input")],
        values[HookPoint(candidates.block, "output")],
    )
    for attn in candidates.attention_out():
        if attn not in values or values[attn].shape != pre.shape:
            continue
        for mlp in candidates.mlp_out():
            if mlp == attn or mlp not in values or values[mlp].shape != pre.shape:
                continue
            if _adds_up((pre, values[attn], values[mlp]), post):
                return {sites.ATTN_OUT: attn, sites.MLP_OUT: mlp}
    return {}


def _summand(
    points: list[HookPoint], start: Tensor, end: Tensor, values: dict[HookPoint, Tensor]
) -> HookPoint | None:
    """The first point whose value leads from ``start`` to ``end``."""
    for point in points:
        value = values.get(point)
        if value is not None and value.shape == start.shape and _adds_up((start, value), end):
            return point
    return None


def _adds_up(parts: tuple[Tensor, ...], whole: Tensor) -> bool:
    """True if ``whole`` is the sum of ``parts`` up to the rounding of the additions themselves.

    The bound is half a unit in the last place per addition, because in bfloat16 a branch may add
    little more than that to a large stream: a loose bound would let any candidate pass.
    """
    terms = torch.stack([part.double() for part in parts])
    halves = 0.5 * (len(parts) - 1) * torch.finfo(whole.dtype).eps
    size = whole.double().abs() if len(parts) <= 2 else terms.abs().sum(0)
    close = (terms.sum(0) - whole.double()).abs() <= halves * size * 1.01
    return bool(close.double().mean() > 0.999)


def _add_projection(
    result: BlockMap,
    kind: str,
    projection: nn.Module | None,
    branch: HookPoint,
    values: dict[HookPoint, Tensor],
) -> None:
    """Adds the projection's input as a site if the branch (or its norm) takes its output."""
    if projection is None:
        return
    entry, exit_ = HookPoint(projection, "input"), HookPoint(projection, "output")
    if entry not in values or exit_ not in values or values[entry].ndim != 3:
        return
    for end in (values.get(branch), values.get(HookPoint(branch.module, "input"))):
        if end is not None and torch.equal(end, values[exit_]):
            result.points[kind] = entry
            return
