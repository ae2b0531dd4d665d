"""What changed features change in the graph's own world: one pass upwards through the layers.

Patterns and norms are held, and features that fire are taken as linear: an activation changes by as
much as its pre-activation, none is switched on or off.  It is what the edges of the whole graph add
up to along all paths, without a row of it being traced; without other features following, what the
edges from the changed features to a goal are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.graphs.feature_edits import FeatureEdits
from monosemy.graphs.features import FeatureGroup
from monosemy.graphs.goals import Goal
from monosemy.graphs.prompt import ReplacedPrompt
from monosemy.graphs.replacement import GraphCoder
from monosemy.models.sites import Site

_AT_ONCE = 1 << 22
"""Numbers of encoder rows that are gathered together."""


@dataclass(frozen=True)
class LinearChange:
    """Changes of the streams before each block and behind the last, and of all features."""

    prompt: ReplacedPrompt
    stream_LTD: list[Tensor]
    feature_N: Tensor
    """Of the activations; of features that are changed by hand, that."""

    def goal(self, goal: Goal) -> float:
        """By how much a goal changes."""
        prompt, token = self.prompt, goal.position
        layers = prompt.layers if goal.stream is None else goal.stream
        change_D = self.stream_LTD[layers][token]
        if goal.stream is None and prompt.final is not None:
            change_D = prompt.final.linear(change_D, prompt.final_inverse_T1[token])
        return float(change_D @ goal.vector_D)


def linear_change(edits: FeatureEdits, following: bool = True) -> LinearChange:
    """``following``: whether other features follow what they read, and changed ones too; otherwise
    all stay as they were but for what is done to them by hand."""
    with torch.no_grad():
        return _Pass(edits, following).run()


class _Pass:
    def __init__(self, edits: FeatureEdits, following: bool) -> None:
        self.edits, self.following = edits, following
        self.prompt: ReplacedPrompt = edits.prompt
        self.stream_TD = torch.zeros_like(self.prompt.last_TD)
        self.read: dict[Site, Tensor] = {}
        self.written: dict[Site, Tensor] = {}
        """What changed features write, by where."""
        features = self.prompt.features
        self.change_N = torch.zeros_like(features.activation_N)
        self.by_hand_N = torch.zeros(len(features), dtype=torch.bool)
        for group in edits.groups:
            self.by_hand_N[group.feature_N[group.feature_N >= 0].cpu()] = True
        self.by_hand_N = self.by_hand_N.to(features.activation_N.device)

    def run(self) -> LinearChange:
        prompt, streams = self.prompt, []
        for layer in range(prompt.layers):
            streams.append(self.stream_TD)
            middle_TD = self.stream_TD + self._attention(layer)
            for site, place in prompt.places.items():
                if site.layer == layer:
                    read_TD = self.stream_TD if place.stream == "pre" else middle_TD
                    self.read[site] = place.linear(read_TD)
            self._features(layer, attending=False)
            self.stream_TD = middle_TD + self._mlp(layer)
        return LinearChange(prompt, [*streams, self.stream_TD], self.change_N)

    def _attention(self, layer: int) -> Tensor:
        held, coded = self.prompt.attention[layer], self.prompt.coded_attention.get(layer)
        if coded is None:
            return held.linear(self.stream_TD)
        self.read[coded.site] = coded.brought(held, self.stream_TD)
        self._features(layer, attending=True)
        there_TW = coded.open(self.read[coded.site]) + self._at(coded.coder, layer)
        return coded.written(held, there_TW)

    def _features(self, layer: int, attending: bool) -> None:
        """Those of attention, or of MLPs."""
        for group in self.prompt.features.groups:
            if (group.coder.attention is not None) != attending:
                continue
            if group.layer == layer and self.following:
                part = slice(group.start, group.start + len(group))
                self.change_N[part] = self._pre_activations(group)
                left_N = torch.where(self.by_hand_N[part], 0.0, self.change_N[part])
                self._write(group, left_N)
        for each in self.edits.groups:
            if each.layer == layer and (each.coder.attention is not None) == attending:
                fires_N = each.feature_N >= 0
                brought_N = self.change_N[each.feature_N] * fires_N
                made_N = each.after(each.clean_N + brought_N) - each.clean_N
                self.change_N[each.feature_N[fires_N]] = made_N[fires_N]
                for written in each.written:
                    each.add_to(written, made_N, self._at(each.coder, written))

    def _pre_activations(self, group: FeatureGroup) -> Tensor:
        change_N = torch.zeros_like(group.activation_N)
        step = max(1, _AT_ONCE // group.coder.sae.d_in)
        for start in range(0, len(group), step):
            part = slice(start, start + step)
            rows_ND, _ = group.coder.encoder(group.latent_N[part])
            for site, columns in group.coder.reads.items():
                if site in self.read:
                    there_ND = self.read[site][group.position_N[part]]
                    change_N[part] += (there_ND * rows_ND[:, columns].to(there_ND)).sum(-1)
        return change_N

    def _write(self, group: FeatureGroup, change_N: Tensor) -> None:
        for layer in group.coder.writes:
            if layer < group.layer:
                continue
            sum_TD = self._at(group.coder, layer)
            for start, stop, _, _ in group.chunks(*sum_TD.shape):
                rows_ND = group.coder.decoder(group.latent_N[start:stop], layer).to(sum_TD)
                made_ND = change_N[start:stop, None] * rows_ND
                sum_TD.index_add_(0, group.position_N[start:stop], made_ND)

    def _mlp(self, layer: int) -> Tensor:
        coder = self.prompt.model.writer.get(layer)
        if coder is None:
            return torch.zeros_like(self.prompt.last_TD)
        return self.prompt.with_skips(layer, self._at(coder, layer), self.read.__getitem__)

    def _at(self, coder: GraphCoder, layer: int) -> Tensor:
        site, part = coder.written_site(layer), coder.writes[layer]
        if site not in self.written:
            shape = self.prompt.length, part.stop - part.start
            self.written[site] = self.prompt.last_TD.new_zeros(shape)
        return self.written[site]
