"""Changes of features at tokens of a prompt, as what they add to the outputs of MLPs.

Each makes a new activation of an old one by a factor and an addend, ``new = factor * old +
addend``, so that ablating, scaling, clamping and adding are one thing.  A feature that does not
fire has the activation 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.graphs.ablation import Deltas
from monosemy.graphs.prompt import ReplacedPrompt
from monosemy.graphs.replacement import GraphCoder
from monosemy.specs.inference.graph_steering import PlacedEdit


@dataclass(frozen=True)
class EditGroup:
    """Changed features of one coder that read one layer."""

    coder: GraphCoder
    layer: int
    latent_N: Tensor
    position_N: Tensor
    factor_N: Tensor
    addend_N: Tensor
    clean_N: Tensor
    """Activations on the clean prompt."""
    feature_N: Tensor
    """Their numbers among the prompt's features; -1 where they do not fire."""

    def after(self, activation_N: Tensor) -> Tensor:
        """The new activations where the old ones are these."""
        return self.factor_N * activation_N + self.addend_N

    @property
    def written(self) -> list[int]:
        """The layers that they write."""
        return [layer for layer in self.coder.writes if layer >= self.layer]

    def add_to(self, layer: int, change_N: Tensor, sum_TD: Tensor) -> None:
        """Adds what changes of activations write at a layer."""
        rows_ND = self.coder.decoder(self.latent_N, layer).to(sum_TD)
        sum_TD.index_add_(0, self.position_N, change_N[:, None].to(sum_TD) * rows_ND)


@dataclass(frozen=True)
class FeatureEdits:
    """All that is changed in a prompt."""

    prompt: ReplacedPrompt
    groups: tuple[EditGroup, ...]

    def __len__(self) -> int:
        return sum(len(group.latent_N) for group in self.groups)

    @cached_property
    def keys(self) -> set[tuple[int, int, int]]:
        """(coder, position, latent) of each."""
        return {
            (group.coder.number, position, latent)
            for group in self.groups
            for position, latent in zip(
                group.position_N.tolist(), group.latent_N.tolist(), strict=True
            )
        }

    def clean_deltas(self) -> Deltas:
        """By site, what clean activations changed add there: row 1 of two, row 0
        being the clean prompt."""
        deltas: Deltas = {}
        for group in self.groups:
            change_N = group.after(group.clean_N) - group.clean_N
            for layer in group.written:
                site = str(group.coder.written_site(layer))
                if site not in deltas:
                    width = group.coder.writes[layer]
                    shape = 2, self.prompt.length, width.stop - width.start
                    deltas[site] = self.prompt.last_TD.new_zeros(shape)
                group.add_to(layer, change_N, deltas[site][1])
        return deltas


def feature_edits(prompt: ReplacedPrompt, edits: Sequence[PlacedEdit]) -> FeatureEdits:
    """The edits at each of their tokens.

    Raises ``DataError`` for a coder, a latent or a token that there is not, a token that the coder
    does not take (its MLP's output is one error there), a feature that is to be ablated or scaled
    where it does not fire, and one that is named twice at a token.
    """
    columns: dict[int, list[tuple[int, int, float, float]]] = {}
    seen: set[tuple[int, int, int]] = set()
    for edit in edits:
        coder = _coder(prompt, edit)
        for position in _positions(prompt, coder, edit):
            key = (coder.number, position, edit.latent)
            if key in seen:
                raise DataError(
                    f"Latent {edit.latent} of coder {coder.number} is changed twice at token "
                    f"{position}.",
                    "Give each feature one change.",
                )
            seen.add(key)
            columns.setdefault(coder.number, []).append((edit.latent, position, *edit.affine))
    groups = [group for number, rows in columns.items() for group in _groups(prompt, number, rows)]
    return FeatureEdits(prompt, tuple(groups))


def _coder(prompt: ReplacedPrompt, edit: PlacedEdit) -> GraphCoder:
    coders = prompt.model.coders
    if edit.coder >= len(coders):
        raise DataError(f"The graph has {len(coders)} SAEs, so none is number {edit.coder}.")
    coder = coders[edit.coder]
    if edit.latent >= coder.sae.d_sae:
        raise DataError(
            f"Coder {coder.number} has latents 0 to {coder.sae.d_sae - 1}, not {edit.latent}."
        )
    return coder


def _positions(prompt: ReplacedPrompt, coder: GraphCoder, edit: PlacedEdit) -> list[int]:
    features, asked = prompt.features, edit.position
    taken = prompt.coded_T[coder.number].nonzero()[:, 0].tolist()
    if asked == "every":
        return [int(each) for each in taken]
    own = (features.coder_N == coder.number) & (features.latent_N == edit.latent)
    firing = [int(each) for each in features.position_N[own].tolist()]
    named = f"Latent {edit.latent} of coder {coder.number}"
    if asked == "firing":
        if not firing:
            raise DataError(
                f"{named} fires at no token of the prompt.",
                "Clamp it, or add to it, at a token of your choice.",
            )
        return firing
    if asked >= prompt.length:
        raise DataError(f"The prompt has tokens 0 to {prompt.length - 1}, not {asked}.")
    if asked not in taken:
        raise DataError(
            f"Coder {coder.number} does not take token {asked}: the MLP's output is one error "
            "there.",
            f"{_first(prompt.model.whole_tokens)} taken by none."
            if asked < prompt.model.whole_tokens
            else "Its norm is beyond those that the coder was trained on.",
        )
    if asked not in firing and edit.mode in ("ablate", "scale"):
        raise DataError(
            f"{named} does not fire at token {asked}, so there is nothing to {edit.mode}.",
            f"It fires at {', '.join(map(str, firing)) or 'none'}; clamp it, or add to it.",
        )
    return [asked]


def _first(tokens: int) -> str:
    return "The first token is" if tokens == 1 else f"The first {tokens} tokens are"


def _groups(
    prompt: ReplacedPrompt, number: int, rows: Sequence[tuple[int, int, float, float]]
) -> Iterator[EditGroup]:
    """Those of one coder by the layer that they read, ascending."""
    features, coder = prompt.features, prompt.model.coders[number]
    device = prompt.last_TD.device
    latent_N = torch.tensor([row[0] for row in rows])
    layer_N = coder.layers_read(latent_N)
    own = (features.coder_N == number).nonzero()[:, 0].tolist()
    places = zip(features.position_N[own].tolist(), features.latent_N[own].tolist(), strict=True)
    number_of = dict(zip(places, own, strict=True))
    feature_N = torch.tensor([number_of.get((row[1], row[0]), -1) for row in rows])
    activation_N = torch.cat([features.activation_N, features.activation_N.new_zeros(1)])
    for layer in layer_N.unique().tolist():
        at = (layer_N == layer).nonzero()[:, 0].tolist()

        def column(place: int, at: list[int] = at) -> Tensor:
            return torch.tensor([rows[each][place] for each in at], device=device)

        yield EditGroup(
            coder=coder,
            layer=layer,
            latent_N=column(0),
            position_N=column(1),
            factor_N=column(2),
            addend_N=column(3),
            clean_N=activation_N[feature_N[at]].to(device),  # -1 is the last, which is 0
            feature_N=feature_N[at].to(device),
        )
