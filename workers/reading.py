"""Activations of the latents of one or several SAEs on a text, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.saes.base import SAE
from monosemy.saes.codes import Codes
from monosemy.specs.hooks import Hooks
from monosemy.specs.inference.activations import ActivationsAnswer, SaeActivations
from workers.prompts import Prompt
from workers.warm_host import Row, Use, WarmHost


@dataclass(frozen=True)
class WarmSae:
    sae: SAE
    prepend_bos: bool
    """Whether the rows it was trained on began with BOS."""
    hooks: Hooks
    """Where it reads and writes."""


@dataclass(frozen=True)
class Wanted:
    """An SAE that is to read a text, and which features to report."""

    warm: WarmSae
    site: str
    features: Sequence[int] | None
    """Only these, as far as they fire; None takes the ``top_k`` strongest."""


def activations(
    host: WarmHost, prompt: Prompt, wanted: Sequence[Wanted], top_k: int
) -> ActivationsAnswer:
    """One reading for each wanted.

    A leading BOS is read and not reported.  SAEs that want the same BOS share one forward, as
    far as the deepest site.
    Raises ``DataError`` for a text that is empty or too long and for features that do not exist;
    ``UnknownSite``.
    """
    for each in wanted:
        check_features(each.warm.sae, each.features)
    rows = [host.words.row(prompt, each.warm.prepend_bos) for each in wanted]
    places: dict[int, list[int]] = {}  # leading tokens -> who wants so many
    for place, (_, skip) in enumerate(rows):
        places.setdefault(skip, []).append(place)
    codes_of: dict[int, Codes] = {}
    asked = [
        Row(
            rows[group[0]][0],
            skip,
            tuple(Use(wanted[place].warm.sae, wanted[place].site) for place in group),
        )
        for skip, group in places.items()
    ]
    for group, codes in zip(places.values(), host.read(asked), strict=True):
        codes_of.update(zip(group, codes, strict=True))
    ids, skip = rows[0]
    return ActivationsAnswer(
        tokens=host.words.pieces(ids[skip:]),
        saes=[_reading(codes_of[place], each.features, top_k) for place, each in enumerate(wanted)],
    )


def check_features(sae: SAE, features: Sequence[int] | None) -> None:
    """Raises ``DataError`` for features that do not exist."""
    if features is not None and not all(0 <= feature < sae.d_sae for feature in features):
        raise DataError(f"A feature does not exist; this SAE has 0 to {sae.d_sae - 1}.")


def _reading(codes: Codes, features: Sequence[int] | None, top_k: int) -> SaeActivations:
    only = None if features is None else set(features)
    strongest = [
        _strongest(indices, values, top_k, only)
        for indices, values in zip(codes.indices.tolist(), codes.values.tolist(), strict=True)
    ]
    chosen = None
    if features is not None:
        chosen = [[round(x, 6) for x in dense(codes, index).tolist()] for index in features]
    return SaeActivations(features=strongest, chosen=chosen)


def dense(codes: Codes, feature: int) -> Tensor:
    """Activations of one latent on every token, ``[n]``."""
    return torch.where(codes.indices == feature, codes.values, 0.0).sum(-1)


def _strongest(
    indices: Sequence[int], values: Sequence[float], top_k: int, only: set[int] | None
) -> list[tuple[int, float]]:
    firing = [
        (value, index)
        for index, value in zip(indices, values, strict=True)
        if value > 0 and (only is None or index in only)
    ]
    firing.sort(key=lambda item: (-item[0], item[1]))
    kept = firing if only is not None else firing[:top_k]
    return [(index, round(value, 6)) for value, index in kept]
