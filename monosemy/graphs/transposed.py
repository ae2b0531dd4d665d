"""Edges of a batch of targets by one transposed pass, block by block from the top.

Cotangents of B targets go down the stream together, ``[P, B, D]`` of the first P tokens, where P
ends at the last target's token.  At each block they meet what its MLP adds (features, error, bias),
the encoders of targets that read there join them, and held attention takes them on.  Nothing else
is kept: the memory is that of one block, of about twice the cotangents, and of the edges.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.graphs.coded_attention import CodedPass
from monosemy.graphs.goals import Goal
from monosemy.graphs.joining import Joining, join
from monosemy.graphs.names import BIASES
from monosemy.graphs.prompt import ReplacedPrompt
from monosemy.graphs.sources import EdgeRows, Sources
from monosemy.models.sites import Site


@dataclass(frozen=True)
class Probe:
    """What directions ``[n, D]`` read of the stream before a block at n tokens, summed."""

    stream: int
    token_N: Tensor
    vector_ND: Tensor


Target = int | Goal | Probe
"""A feature's number among those of the prompt, a goal, or a probe of the stream."""


@dataclass
class Sweep:
    """The cotangents ``[P, D]`` of one target on its way down, by layer."""

    behind: dict[int, Tensor] = field(default_factory=dict)
    """Of the stream behind a block; of -1 of what enters the first."""
    middle: dict[int, Tensor] = field(default_factory=dict)
    """Of the stream behind attention."""
    through: dict[int, Tensor] = field(default_factory=dict)
    """What arrives before a block through its heads alone."""


_SKIP_CHUNK = 1 << 20


class TransposedPass:
    """Edges of any targets of a prompt; made once for a prompt."""

    def __init__(self, prompt: ReplacedPrompt) -> None:
        self.prompt = prompt
        self.sources = Sources.of(prompt)
        for coder in prompt.model.coders:
            for layer in coder.writes:
                across = [site for site, _ in coder.skips(layer) if site.layer != layer]
                if across:
                    raise DataError(
                        f"Coder {coder.number} has a skip from {across[0]} to blocks.{layer}; "
                        "graphs take those within a block."
                    )

    def depth(self, target: Target) -> tuple[int, int]:
        """(layer, token) of a target; goals are behind all layers or at their stream's."""
        if isinstance(target, Goal):
            stream = self.prompt.layers if target.stream is None else target.stream
            return stream, target.position
        if isinstance(target, Probe):
            return target.stream, int(target.token_N.max())
        features = self.prompt.features
        return int(features.layer_N[target]), int(features.position_N[target])

    def rows(self, targets: Sequence[Target]) -> EdgeRows:
        """Edges of these targets.  The nearer their layers and tokens, the less is done in vain."""
        batch = _Batch(self, targets)
        with torch.no_grad():
            return batch.run()

    def sweep(self, target: Target) -> tuple[EdgeRows, Sweep]:
        """The edges of one target, and its cotangents on their way."""
        batch, seen = _Batch(self, [target]), Sweep()
        batch.seen = seen
        with torch.no_grad():
            return batch.run(), seen

    @cached_property
    def constants(self) -> list[dict[str, Tensor]]:
        """What attention of each block adds without a stream, by kind: ``[T, D]`` those not 0."""
        return [
            {kind: value for kind, value in held.constants().items() if bool(value.any())}
            for held in self.prompt.attention
        ]


class _Batch:
    def __init__(self, owner: TransposedPass, targets: Sequence[Target]) -> None:
        self.prompt, self.sources, self.owner = owner.prompt, owner.sources, owner
        self.device = owner.prompt.last_TD.device
        self.tokens = 1 + max(owner.depth(target)[1] for target in targets)
        self.count = len(targets)
        self.seen: Sweep | None = None
        self.edges_NB = torch.zeros(self.sources.first_goal, self.count, device=self.device)
        self.value_B = torch.zeros(self.count, device=self.device)
        self.at_stream: dict[int, list[Joining]] = defaultdict(list)
        self.at_place: dict[Site, list[Joining]] = defaultdict(list)
        self.at_attention: dict[Site, list[Joining]] = defaultdict(list)
        for column, target in enumerate(targets):
            if isinstance(target, Goal):
                self._goal(column, target)
            elif isinstance(target, Probe):
                self._probe(column, target)
        self._features([(c, t) for c, t in enumerate(targets) if isinstance(t, int)])

    def _goal(self, column: int, goal: Goal) -> None:
        prompt, token = self.prompt, goal.position
        vector = goal.vector_D.to(self.device)
        self._bias("unembedding")[column] += goal.constant
        if goal.stream is None:
            value = float(prompt.final_value(token) @ vector)
            if prompt.final is not None:
                self._bias("norm")[column] += float(prompt.final.shift @ vector)
                vector = prompt.final.transposed(vector, prompt.final_inverse_T1[token])
            boundary = prompt.layers
        else:
            boundary = goal.stream
            value = float(self._stream(boundary)[token] @ vector)
        self.value_B[column] = value + goal.constant
        index = torch.tensor([column], device=self.device)
        self.at_stream[boundary].append(
            Joining(index, torch.tensor([token], device=self.device), vector[None])
        )

    def _probe(self, column: int, probe: Probe) -> None:
        read_ND = self._stream(probe.stream)[probe.token_N] * probe.vector_ND
        self.value_B[column] = read_ND.sum()
        columns_N = torch.full_like(probe.token_N, column)
        joining = Joining(columns_N, probe.token_N, probe.vector_ND)
        self.at_stream[probe.stream].append(joining)

    def _stream(self, boundary: int) -> Tensor:
        if boundary == self.prompt.layers:
            return self.prompt.last_TD
        return self.prompt.attention[boundary].reading.stream_SD

    def _features(self, members: Sequence[tuple[int, int]]) -> None:
        """The encoders of targets that are features, at the places that they read."""
        if not members:
            return
        features = self.prompt.features
        columns, numbers = (torch.tensor(each) for each in zip(*members, strict=True))
        coder_N = features.coder_N[numbers]
        for coder in self.prompt.model.coders:
            mine = (coder_N == coder.number).nonzero()[:, 0]
            if not len(mine):
                continue
            number, column = numbers[mine.cpu()], columns[mine.cpu()].to(self.device)
            token = features.position_N[number]
            rows_ND, bias_N = coder.encoder(features.latent_N[number])
            self._bias("encoder")[column] += bias_N
            self.value_B[column] += bias_N
            for site, part in coder.reads.items():
                vector_ND = rows_ND[:, part]
                reads = vector_ND.any(dim=1)
                if bool(reads.any()):
                    joining = Joining(column[reads], token[reads], vector_ND[reads])
                    at = self.at_place if coder.attention is None else self.at_attention
                    at[site].append(joining)

    def _bias(self, kind: str) -> Tensor:
        return self.edges_NB[self.sources.bias(kind)]

    def run(self) -> EdgeRows:
        prompt = self.prompt
        width = prompt.last_TD.shape[1]
        cotangents = torch.zeros(self.tokens, self.count, width, device=self.device)
        begun = False
        by_layer: dict[int, list[Site]] = defaultdict(list)
        for site in self.at_place:
            by_layer[site.layer].append(site)
        attended = {site.layer for site in self.at_attention}
        for layer in reversed(range(prompt.layers)):
            begun |= join(cotangents, self.at_stream.get(layer + 1, ()))
            if not begun and layer not in by_layer and layer not in attended:
                continue
            self._block(layer, cotangents, by_layer[layer])
            begun = True
        join(cotangents, self.at_stream.get(0, ()))
        if self.seen is not None:
            self.seen.behind[-1] = cotangents[:, 0].clone()
        self._tokens(cotangents)
        return EdgeRows(self.edges_NB, self.value_B)

    def _block(self, layer: int, cotangents_PBD: Tensor, sites: Sequence[Site]) -> None:
        """From the stream behind a block to the one before it, in place."""
        prompt, seen = self.prompt, self.seen
        if seen is not None:
            seen.behind[layer] = cotangents_PBD[:, 0].clone()
        self._mlp(layer, cotangents_PBD)
        # In parallel blocks, or where a coder reads before attention, the skip joins behind it.
        late = self._skip(layer, cotangents_PBD)
        for stream in ("mid", "pre"):
            if stream == "pre":
                if seen is not None:
                    seen.middle[layer] = cotangents_PBD[:, 0].clone()
                self._attention(layer, cotangents_PBD)
                if seen is not None:
                    seen.through[layer] = cotangents_PBD[:, 0] - seen.middle[layer]
                if late is not None:
                    cotangents_PBD += late
            for site in sites:
                place = prompt.places[site]
                if place.stream != stream:
                    continue
                for each in self.at_place[site]:
                    self._read(site, each)
                    back = place.transposed(each.vector_ND, each.token_N)
                    join(cotangents_PBD, [Joining(each.column_N, each.token_N, back)])

    def _read(self, site: Site, joining: Joining) -> None:
        """The value that targets read at a place, and what of it is a norm's shift."""
        place = self.prompt.places[site]
        vectors = joining.vector_ND
        read = (place.value_TD[joining.token_N] * vectors).sum(-1)
        self.value_B.index_add_(0, joining.column_N, read)
        if place.shift is not None:
            self._bias("norm").index_add_(0, joining.column_N, vectors @ place.shift)

    def _mlp(self, layer: int, cotangents_PBD: Tensor) -> None:
        """Products with all that an MLP adds to the stream."""
        prompt, tokens = self.prompt, self.tokens
        first = self.sources.error(layer)
        self.edges_NB[first : first + tokens] += _products(
            cotangents_PBD, prompt.error_LTD[layer][:tokens]
        )
        coder = prompt.model.writer.get(layer)
        if coder is None:
            return
        for group in prompt.features.groups:
            if group.coder is coder and group.layer <= layer:
                into = self.edges_NB[group.start : group.start + len(group)]
                group.products(layer, cotangents_PBD, into)
        bias_D = coder.b_dec[coder.writes[layer]].to(self.device)
        coded_T = prompt.coded_T[coder.number][:tokens]
        weights = coded_T.float() @ (cotangents_PBD @ bias_D)
        self._bias("decoder").add_(weights)

    def _skip(self, layer: int, cotangents_PBD: Tensor) -> Tensor | None:
        """Takes cotangents through the skip of a layer; returns what joins behind attention."""
        prompt = self.prompt
        coder = prompt.model.writer.get(layer)
        if coder is None:
            return None
        late: Tensor | None = None
        for site, matrix in coder.skips(layer):
            place, matrix = prompt.places[site], matrix.to(self.device)
            into = cotangents_PBD
            if place.stream == "pre":
                late = torch.zeros_like(cotangents_PBD) if late is None else late
                into = late
            coded_T = prompt.coded_T[coder.number][: self.tokens]
            step = max(1, _SKIP_CHUNK // cotangents_PBD[0].numel())
            for start in range(0, self.tokens, step):
                token = torch.arange(start, min(start + step, self.tokens), device=self.device)
                token = token[coded_T[token]]
                back = cotangents_PBD[token] @ matrix
                if place.shift is not None:
                    self._bias("norm").add_((back @ place.shift).sum(0))
                into[token] += place.transposed(back, token)
        return late

    def _attention(self, layer: int, cotangents_PBD: Tensor) -> None:
        if layer in self.prompt.coded_attention:
            self._coded_attention(layer, cotangents_PBD)
            return
        for kind, constant_TD in self.owner.constants[layer].items():
            products = _products(cotangents_PBD, constant_TD[: self.tokens])
            self._bias(kind).add_(products.sum(0))
        self.prompt.attention[layer].add_transposed(cotangents_PBD)

    def _coded_attention(self, layer: int, cotangents_PBD: Tensor) -> None:
        coded, held = self.prompt.coded_attention[layer], self.prompt.attention[layer]
        joining = self.at_attention.get(coded.site, [])
        for each in joining:
            read_N = (coded.value_TW[each.token_N] * each.vector_ND).sum(-1)
            self.value_B.index_add_(0, each.column_N, read_N)
        first = self.sources.attention_error(layer)
        biases = {kind: self.sources.bias(kind) for kind in BIASES}
        met = CodedPass(coded, held, joining, self.edges_NB, first, biases)
        held.add_transposed(cotangents_PBD, met.passing())

    def _tokens(self, cotangents_PBD: Tensor) -> None:
        prompt, tokens, sources = self.prompt, self.tokens, self.sources
        parts = [(sources.first_token, prompt.token_TD)]
        if prompt.position_TD is not None:
            parts.append((sources.first_position, prompt.position_TD))
        for first, vectors_TD in parts:
            self.edges_NB[first : first + tokens] = _products(cotangents_PBD, vectors_TD[:tokens])


def _products(cotangents_PBD: Tensor, vectors_PD: Tensor) -> Tensor:
    """``[P, B]``: of the cotangents at each token with the vector there."""
    return torch.bmm(cotangents_PBD, vectors_PD[:, :, None])[..., 0]
