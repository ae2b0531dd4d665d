"""Which heads carry an edge of a graph from token to token, layer by layer.

An edge is a sum over all paths from its source to its target that meet no feature and no error on
the way.  At every layer each path goes either through one head or past attention:

    edge = sum over h of  h(u_m) . w_m  +  bypass        for every block m on the way,

with ``u_m`` what the source has become in the stream before block m, and ``w_m`` what the target
reads of what attention adds there.  Where an SAE stands for attention, heads carry an edge to its
own features alone, at the tokens that it takes: whatever else reads them begins anew.

The split of one layer is that of the head loadings of Kamath et al. (2025), "Tracing Attention
Computation Through Feature Interactions"; that of several is ours (``attribution/loadings.py`` has
it of the host without a graph's coders).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.graphs.goals import Goal
from monosemy.graphs.joining import Joining, join
from monosemy.graphs.prompt import ReplacedPrompt
from monosemy.graphs.sources import Sources
from monosemy.graphs.transposed import TransposedPass
from monosemy.models.sites import Site


@dataclass(frozen=True)
class LayerHeads:
    """How an edge gets past the attention of one block; float64."""

    layer: int
    by_head_H: Tensor
    bypass: float
    """Along the stream, past the heads of this block, or written behind them."""


@dataclass(frozen=True)
class EdgeHeads:
    """An edge, and how it goes."""

    value: float
    layers: list[LayerHeads]
    """Up to the last block that the target reads behind; in each, heads and bypass sum to
    ``value``."""


@dataclass
class _Written:
    """What a source writes, ``[T, D]``, by the block before, in or behind which it does."""

    before: dict[int, Tensor] = field(default_factory=dict)
    middle: dict[int, Tensor] = field(default_factory=dict)
    behind: dict[int, Tensor] = field(default_factory=dict)


def edge_heads(passes: TransposedPass, target: int | Goal, source: int) -> EdgeHeads:
    """The edge from a source of the prompt (by its number in ``Sources``) to a target.

    Raises ``DataError`` for a source that is no feature, error, token or position.
    """
    return _Way(passes, target).of_source(source)


def token_heads(passes: TransposedPass, target: int | Goal, token: int) -> EdgeHeads:
    """What heads of each block bring to a target from the stream at one token, whatever made it.

    Here ``value`` is the target's, and layers are told one by one: heads and bypass are what of it
    goes through the stream at this token before the block, which differs from block to block.
    Raises ``DataError`` for a token that is not there.
    """
    return _Way(passes, target).of_token(token)


class _Way:
    """A target's sweep down, to be met by what goes up."""

    def __init__(self, passes: TransposedPass, target: int | Goal) -> None:
        self.prompt: ReplacedPrompt = passes.prompt
        self.sources: Sources = passes.sources
        rows, self.seen = passes.sweep(target)
        self.edges_N, self.value = rows.edges_NB[:, 0], float(rows.value_B[0])
        self.joining = _read_at_attention(self.prompt, target)
        self.tokens = passes.depth(target)[1] + 1

    def of_source(self, source: int) -> EdgeHeads:
        written = _written(self.prompt, self.sources, source)
        edge = float(self.edges_N[source])
        stream_TD = torch.zeros_like(self.prompt.last_TD)
        layers = []
        with torch.no_grad():
            for layer in range(self.prompt.layers):
                stream_TD = stream_TD + written.before.get(layer, 0.0)
                if layer in self.seen.middle and bool(stream_TD.any()):
                    by_head_H, bypass = self._past(layer, stream_TD)
                    layers.append(
                        LayerHeads(layer, by_head_H, bypass + self._later(written, layer))
                    )
                stream_TD = self._behind(layer, stream_TD, written)
        return EdgeHeads(edge, layers)

    def of_token(self, token: int) -> EdgeHeads:
        if not 0 <= token < self.prompt.length:
            raise DataError(f"The prompt has {self.prompt.length} tokens, so none is {token}.")
        layers = []
        with torch.no_grad():
            for layer in sorted(self.seen.middle):
                stream_TD = torch.zeros_like(self.prompt.last_TD)
                stream_TD[token] = self.prompt.attention[layer].reading.stream_SD[token]
                layers.append(LayerHeads(layer, *self._past(layer, stream_TD)))
        return EdgeHeads(self.value, layers)

    def _past(self, layer: int, stream_TD: Tensor) -> tuple[Tensor, float]:
        """(through each head, past them) of a stream before a block, as the target reads them."""
        held, seen = self.prompt.attention[layer], self.seen
        heads = held.reading.block.heads
        z_HTV = held.z(stream_TD).double().unflatten(1, (heads, -1)).transpose(0, 1)
        into_HTV = self._into(layer).double().unflatten(1, (heads, -1)).transpose(0, 1)
        by_head_H = (z_HTV[:, : self.tokens] * into_HTV).sum((1, 2))
        past_TD = seen.behind[layer - 1] - seen.through[layer]
        return by_head_H, float((stream_TD[: self.tokens].double() * past_TD.double()).sum())

    def _into(self, layer: int) -> Tensor:
        """What the target reads of z, ``[P, Z]``."""
        held, coded = self.prompt.attention[layer], self.prompt.coded_attention.get(layer)
        behind_P1D = self.seen.middle[layer][:, None]
        if coded is None:
            return held.read(behind_P1D)[:, 0]
        there_P1W = coded.open(held.read(behind_P1D) if coded.at_z else behind_P1D)
        join(there_P1W, self.joining.get(layer, ()))
        return (there_P1W if coded.at_z else held.read(there_P1W))[:, 0]

    def _behind(self, layer: int, stream_TD: Tensor, written: _Written) -> Tensor:
        """The stream behind a block, from that before it."""
        prompt = self.prompt
        held, coded = prompt.attention[layer], prompt.coded_attention.get(layer)
        if coded is None:
            added_TD = held.linear(stream_TD)
        else:
            added_TD = coded.written(held, coded.open(coded.brought(held, stream_TD)))
        middle_TD = stream_TD + added_TD + written.middle.get(layer, 0.0)

        def read(site: Site) -> Tensor:
            place = prompt.places[site]
            return place.linear(stream_TD if place.stream == "pre" else middle_TD)

        return prompt.with_skips(layer, middle_TD + written.behind.get(layer, 0.0), read)

    def _later(self, written: _Written, layer: int) -> float:
        """What is written behind the heads of a block, as the target reads it."""
        parts = (
            (written.before, layer + 1, {at + 1: each for at, each in self.seen.behind.items()}),
            (written.middle, layer, self.seen.middle),
            (written.behind, layer, self.seen.behind),
        )
        total = 0.0
        for vectors, first, cotangents in parts:
            for at, vector_TD in vectors.items():
                if at >= first and at in cotangents:
                    there_PD = vector_TD[: self.tokens].double()
                    total += float((there_PD * cotangents[at].double()).sum())
        return total


def _written(prompt: ReplacedPrompt, sources: Sources, source: int) -> _Written:
    """What a source writes, at its token."""
    made = _Written()

    def at(token: int, vector_D: Tensor) -> Tensor:
        placed_TD = torch.zeros_like(prompt.last_TD)
        placed_TD[token] = vector_D
        return placed_TD

    def through_attention(layer: int, token: int, vector_W: Tensor) -> Tensor:
        coded = prompt.coded_attention[layer]
        placed_TW = torch.zeros_like(coded.value_TW)
        placed_TW[token] = vector_W
        return coded.written(prompt.attention[layer], placed_TW)

    if 0 <= source < sources.features:
        group = next(g for g in prompt.features.groups if source < g.start + len(g))
        place = source - group.start
        token = int(group.position_N[place])
        for layer in group.coder.writes:
            if layer < group.layer:
                continue
            vector = group.written(layer, place, place + 1)[0]
            if group.coder.attention is not None:
                made.middle[layer] = through_attention(layer, token, vector)
            else:
                made.behind[layer] = at(token, vector)
        return made
    if sources.first_error <= source < sources.first_token:
        layer, token = divmod(source - sources.first_error, sources.tokens)
        if layer < sources.layers:
            made.behind[layer] = at(token, prompt.error_LTD[layer][token])
        else:
            layer = sources.attention[layer - sources.layers]
            error_W = prompt.coded_attention[layer].error_TW[token]
            made.middle[layer] = through_attention(layer, token, error_W)
        return made
    if sources.first_token <= source < sources.first_bias:
        place, token = divmod(source - sources.first_token, sources.tokens)
        vectors_TD = prompt.token_TD if place == 0 else prompt.position_TD
        assert vectors_TD is not None
        made.before[0] = at(token, vectors_TD[token])
        return made
    raise DataError("Heads carry what features, errors, tokens and positions write, no biases.")


def _read_at_attention(prompt: ReplacedPrompt, target: int | Goal) -> dict[int, list[Joining]]:
    """The encoder of a target that is a feature of attention, by its layer."""
    if isinstance(target, Goal):
        return {}
    features = prompt.features
    coder = prompt.model.coders[int(features.coder_N[target])]
    if coder.attention is None:
        return {}
    rows_ND, _ = coder.encoder(features.latent_N[target : target + 1])
    token_N = features.position_N[target : target + 1]
    return {coder.attention.layer: [Joining(torch.zeros_like(token_N), token_N, rows_ND)]}
