"""A prompt read by a replacement model: features, errors, and all that is held.

The MLP output of a layer that a coder writes is, at tokens that the coder takes,

    sum over features of activation * decoder row  +  b_dec  +  skip(what is read)  +  error,

and an error alone at the others: the first tokens (``ReplacementModel.whole_tokens``), those whose
activations are beyond the norm that the coder's training left out, and all of a layer without one.
What an SAE of attention stands for has the same form (``coded_attention.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from monosemy.attribution.attention import TOLERANCE
from monosemy.attribution.linearised import LinearisedPrompt, linearise, prove_linear
from monosemy.attribution.reading import PromptReading, check_prompt, read
from monosemy.attribution.stream import needed_points, stream_parts
from monosemy.errors import DataError, ModelError
from monosemy.graphs.attention import HeldAttention, check_parts
from monosemy.graphs.coded_attention import CodedAttention
from monosemy.graphs.features import Features
from monosemy.graphs.places import ReadPlace, Stream, read_place
from monosemy.graphs.replacement import GraphCoder, ReplacementModel
from monosemy.models import sites as kinds
from monosemy.models.hook_points import HookPoint
from monosemy.models.host import HostModel
from monosemy.models.norms import FrozenNorm, frozen_norm
from monosemy.models.sites import Site

_SAME_SUM = 1e-3
"""Between a coder's own reconstruction and the sum of its decoder rows, as a share of the norm."""


@dataclass(frozen=True)
class ReplacedPrompt:
    """What a forward of T tokens gave; float32 on the host's device."""

    model: ReplacementModel
    ids_T: tuple[int, ...]
    attention: list[HeldAttention]
    parallel: list[bool]
    """By layer: whether attention and MLP both read the stream before the block."""
    places: dict[Site, ReadPlace]
    features: Features
    mlp_LTD: list[Tensor]
    """What each MLP adds."""
    error_LTD: list[Tensor]
    coded_T: dict[int, Tensor]
    """By coder: the tokens that it takes, bool."""
    coded_attention: dict[int, CodedAttention]
    """By layer, where an SAE stands for attention; ascending."""
    token_TD: Tensor
    position_TD: Tensor | None
    """Embeddings of positions, where the host adds them to those of tokens."""
    last_TD: Tensor
    """The stream behind the last block."""
    final: FrozenNorm | None
    final_inverse_T1: Tensor

    @property
    def host(self) -> HostModel:
        return self.model.host

    @property
    def length(self) -> int:
        return len(self.ids_T)

    @property
    def layers(self) -> int:
        return len(self.attention)

    @cached_property
    def logits_V(self) -> Tensor:
        """The host's logits behind the last token, float32."""
        ids_BS = torch.tensor([list(self.ids_T)])
        if self.host.abilities.cache:
            return self.host.extend(ids_BS)[0][0].float()
        return self.host.logits(ids_BS, torch.ones_like(ids_BS))[0, -1].float()

    @cached_property
    def linearised(self) -> LinearisedPrompt:
        """The same by hooks on the host's modules: values to hold the graph against."""
        return linearise(self.host, self.ids_T)

    @cached_property
    def read_TD(self) -> dict[Site, Tensor]:
        """What coders read, by place."""
        attended = {each.site: each.value_TW for each in self.coded_attention.values()}
        return {site: place.value_TD for site, place in self.places.items()} | attended

    def with_skips(self, layer: int, sum_TD: Tensor, read: Callable[[Site], Tensor]) -> Tensor:
        """With what a layer's linear paths make of a part of the stream, which ``read`` says of
        each place that they read."""
        coder = self.model.writer.get(layer)
        if coder is None:
            return sum_TD
        at_T1 = self.coded_T[coder.number][:, None]
        for site, matrix in coder.skips(layer):
            sum_TD = sum_TD + (read(site) @ matrix.T.to(sum_TD)) * at_T1
        return sum_TD

    def final_value(self, token: int) -> Tensor:
        """What the unembedding multiplies at a token, ``[D]``."""
        if self.final is None:
            return self.last_TD[token]
        inverse = self.final_inverse_T1[token]
        return self.final.linear(self.last_TD[token], inverse) + self.final.shift


def read_prompt(model: ReplacementModel, ids: Sequence[int]) -> ReplacedPrompt:
    """Reads a prompt; proves the host's linearity the first time.

    Raises ``ModelError`` for a host that is not affine with patterns, norms and MLPs held, or a
    place that a coder reads which is no norm of the stream; ``DataError`` for a prompt of one
    token, one too long, or a coder whose activations or reconstruction are no sums.
    """
    host = model.host
    check_prompt(host, ids)
    prove_linear(host)
    wanted = {site for each in model.coders if each.attention is None for site in each.reads}
    around = [_around(host, layer) for layer in range(host.n_layers)]
    last = Site(host.n_layers - 1, kinds.RESID_POST)
    names = [str(site) for site in (*wanted, *(site for each in around for site in each), last)]
    tokens, positions = needed_points(host)
    with host.opened() as opened:
        norm = opened.trunk.final_norm
    ends = [] if norm is None else [HookPoint(norm, "output")]
    reading = read(host, ids, range(host.n_layers), names, [tokens, *positions, *ends])
    attention = [HeldAttention(reading.blocks[layer]) for layer in range(host.n_layers)]
    _check_attention(host, attention, reading)
    places = {site: _place(host, site, reading) for site in sorted(wanted)}
    at_attention = {
        site: reading.values[str(site)]
        for coder in model.attention_writer.values()
        for site in coder.reads
    }
    read_TD = {site: place.value_TD for site, place in places.items()} | at_attention
    coded, features = _encode(model, read_TD)
    mlp = [reading.values[str(Site(layer, kinds.MLP_OUT))] for layer in range(host.n_layers)]
    made = _embeddings(host, reading)
    last_TD = reading.values[str(last)]
    final, inverse = _final(host, last_TD, reading, ends)
    return ReplacedPrompt(
        model=model,
        ids_T=tuple(ids),
        attention=attention,
        parallel=[Site(layer, kinds.RESID_MID) not in around[layer] for layer in range(len(mlp))],
        places=places,
        features=features,
        mlp_LTD=mlp,
        error_LTD=[
            _error(model, layer, mlp[layer], places, coded, features) for layer in range(len(mlp))
        ],
        coded_T=coded,
        coded_attention={
            layer: CodedAttention.of(coder, read_TD[site], coded[coder.number], features)
            for layer, coder in sorted(model.attention_writer.items())
            for site in coder.reads
        },
        token_TD=made[0],
        position_TD=made[1],
        last_TD=last_TD,
        final=final,
        final_inverse_T1=inverse,
    )


def _around(host: HostModel, layer: int) -> list[Site]:
    """The sites of a block by which its parts are checked."""
    with host.opened(layer) as opened:
        points = opened.sites.points(layer)
    return [
        Site(layer, kind)
        for kind in (kinds.RESID_PRE, kinds.RESID_MID, kinds.ATTN_OUT, kinds.MLP_OUT)
        if kind in points
    ]


def _check_attention(
    host: HostModel, attention: Sequence[HeldAttention], reading: PromptReading
) -> None:
    allowed = 5 * TOLERANCE.get(host.dtype, 2e-5)
    for layer, held in enumerate(attention):
        off = check_parts(held, reading.values[str(Site(layer, kinds.ATTN_OUT))])
        if not off <= allowed:
            raise ModelError(
                f"Attention in blocks.{layer} of {host.name} is not the sum of its parts on this "
                f"prompt (off by {off:.2g} of its norm)."
            )


def _place(host: HostModel, site: Site, reading: PromptReading) -> ReadPlace:
    streams: dict[Stream, Tensor] = {}
    for stream, kind in (("mid", kinds.RESID_MID), ("pre", kinds.RESID_PRE)):
        value = reading.values.get(str(Site(site.layer, kind)))
        if value is not None:
            streams[stream] = value  # type: ignore[index]
    return read_place(host, site, reading.values[str(site)], streams)


def _encode(
    model: ReplacementModel, read_TD: dict[Site, Tensor]
) -> tuple[dict[int, Tensor], Features]:
    """(the tokens that each coder takes, what fires there); ``read_TD``: what coders read."""
    coded, parts = {}, []
    for coder in model.coders:
        own_TD = [read_TD[site] for site in coder.reads]
        usable = coder.hosted.usable([part[None] for part in own_TD])[0].clone()
        usable[: model.whole_tokens] = False
        coded[coder.number] = usable
        parts.append(_active(coder, torch.cat(own_TD, dim=-1), usable))
    return coded, Features.of(parts)


def _active(
    coder: GraphCoder, read_TD: Tensor, usable_T: Tensor
) -> tuple[GraphCoder, Tensor, Tensor, Tensor]:
    """Positions, latents and activations of what fires at the usable tokens."""
    at_N = usable_T.nonzero()[:, 0]
    sae = coder.sae
    with torch.no_grad():
        x_ND = read_TD[at_N].to(sae.device, sae.b_dec.dtype)
        codes = sae.encode(x_ND)
        made_ND = sae.decode(codes, x_ND).float().to(read_TD.device)
    fires = codes.values > 0
    position = at_N[:, None].expand(*codes.indices.shape)[fires.to(at_N.device)]
    active = (position, codes.indices[fires].to(at_N.device), codes.values[fires].to(at_N.device))
    _check_sum(coder, read_TD[at_N], made_ND, fires, codes.indices, codes.values)
    _check_encoder(coder, read_TD[at_N], fires, codes.indices, codes.values)
    return coder, *active


def _check_sum(
    coder: GraphCoder,
    x_ND: Tensor,
    made_ND: Tensor,
    fires_NK: Tensor,
    latent_NK: Tensor,
    value_NK: Tensor,
) -> None:
    """``DataError`` unless a reconstruction is what the graph takes it for, at one token."""
    if not len(x_ND):
        return
    fires = fires_NK[-1]
    row_D = value_NK[-1][fires] @ coder.sae.decoder_rows(latent_NK[-1][fires])
    row_D = row_D.float().to(made_ND.device) + coder.b_dec.to(made_ND.device)
    matrix = coder.sae.skip_matrix()
    if matrix is not None:
        row_D = row_D + matrix.detach().float().to(x_ND.device) @ x_ND[-1]
    off = float((row_D - made_ND[-1]).norm() / made_ND[-1].norm().clamp_min(1e-30))
    if not off <= _SAME_SUM:
        raise DataError(
            f"Coder {coder.number} of the set ({type(coder.sae).__name__}) reconstructs something "
            f"else than the sum of its decoder rows, bias and skip (off by {off:.2g})."
        )


def _check_encoder(
    coder: GraphCoder, x_ND: Tensor, fires_NK: Tensor, latent_NK: Tensor, value_NK: Tensor
) -> None:
    """``DataError`` unless activations are the pre-activations that edges add up to, at one
    token."""
    if not len(x_ND):
        return
    fires = fires_NK[-1]
    rows_ND, bias_N = coder.encoder(latent_NK[-1][fires])
    made_N, value_N = x_ND[-1].to(rows_ND) @ rows_ND.T + bias_N, value_NK[-1][fires].float()
    off = float((made_N - value_N).norm() / value_N.norm().clamp_min(1e-30))
    if len(value_N) and not off <= _SAME_SUM:
        raise DataError(
            f"Coder {coder.number} of the set ({type(coder.sae).__name__}) has activations that "
            f"are not its encoder's pre-activations (off by {off:.2g}), so no edges add up to them."
        )


def _error(
    model: ReplacementModel,
    layer: int,
    mlp_TD: Tensor,
    places: dict[Site, ReadPlace],
    coded: dict[int, Tensor],
    features: Features,
) -> Tensor:
    coder = model.writer.get(layer)
    if coder is None:
        return mlp_TD.clone()
    made_TD = torch.zeros_like(mlp_TD)
    for group in features.groups:
        if group.coder is coder and group.layer <= layer:
            group.add_to(layer, made_TD)
    usable = coded[coder.number]
    made_TD[usable] += coder.b_dec[coder.writes[layer]].to(made_TD.device)
    for site, matrix in coder.skips(layer):
        made_TD[usable] += places[site].value_TD[usable] @ matrix.T.to(made_TD.device)
    return mlp_TD - made_TD


def _embeddings(host: HostModel, reading: PromptReading) -> tuple[Tensor, Tensor | None]:
    parts = stream_parts(host, 0, reading.values.__getitem__, reading.points.get)
    by_kind = {part.kind: part.vectors_SD for part in parts}
    return by_kind["embedding"], by_kind.get("position")


def _final(
    host: HostModel, last_TD: Tensor, reading: PromptReading, ends: Sequence[HookPoint]
) -> tuple[FrozenNorm | None, Tensor]:
    if not ends:
        return None, last_TD.new_ones(len(last_TD), 1)
    norm = frozen_norm(ends[0].module, (host.d_model,), host.device)
    if norm is None:
        raise ModelError(f"The last norm of {host.name} is not linear when held.")
    return norm, norm.inverse(last_TD, reading.points[ends[0]])
