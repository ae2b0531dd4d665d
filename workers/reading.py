"""What a text makes the latents of one or several SAEs do, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.saes.base import SAE
from monosemy.saes.codes import Codes
from workers.prompts import Prompt
from workers.warm_host import Row, Use, WarmHost


@dataclass(frozen=True)
class WarmSae:
    sae: SAE
    prepend_bos: bool
    """Whether the rows it was trained on began with BOS."""
    target_site: str | None
    """Where a transcoder writes."""


@dataclass(frozen=True)
class Wanted:
    """An SAE that is to read a text, and what is to be told of it."""

    warm: WarmSae
    site: str
    features: Sequence[int] | None
    """Only these, as far as they fire; None takes the ``top_k`` strongest."""


def activations(
    host: WarmHost, prompt: Prompt, wanted: Sequence[Wanted], top_k: int
) -> dict[str, Any]:
    """``{"tokens": [{"id", "text"}], "saes": [{"features", "chosen"}]}``, one for each wanted.

    ``features``: by token ``[index, activation]`` of those that fire, strongest first.
    ``chosen``: for each feature asked for its activation on every token, 0 included; None where
    none was asked for.  A leading BOS is read and not told.  SAEs that want the same BOS share one
    forward, as far as the deepest site.
    Raises ``DataError`` for a text that is empty or too long and for features that do not exist;
    ``UnknownSite``.
    """
    for each in wanted:
        check_features(each.warm.sae, each.features)
    rows = [host.words.row(prompt, each.warm.prepend_bos) for each in wanted]
    places: dict[int, list[int]] = {}  # leading tokens -> who wants so many
    for place, (_, skip) in enumerate(rows):
        places.setdefault(skip, []).append(place)
    found: dict[int, Codes] = {}
    asked = [
        Row(
            rows[group[0]][0],
            skip,
            tuple(Use(wanted[place].warm.sae, wanted[place].site) for place in group),
        )
        for skip, group in places.items()
    ]
    for group, codes in zip(places.values(), host.read(asked), strict=True):
        found.update(zip(group, codes, strict=True))
    ids, skip = rows[0]
    return {
        "tokens": host.words.pieces(ids[skip:]),
        "saes": [_told(found[place], each.features, top_k) for place, each in enumerate(wanted)],
    }


def check_features(sae: SAE, features: Sequence[int] | None) -> None:
    """Raises ``DataError`` for those that there are not."""
    if features is not None and not all(0 <= feature < sae.d_sae for feature in features):
        raise DataError(f"A feature does not exist; this SAE has 0 to {sae.d_sae - 1}.")


def _told(codes: Codes, features: Sequence[int] | None, top_k: int) -> dict[str, Any]:
    only = None if features is None else set(features)
    strongest = [
        _strongest(indices, values, top_k, only)
        for indices, values in zip(codes.indices.tolist(), codes.values.tolist(), strict=True)
    ]
    chosen = None
    if features is not None:
        chosen = [[round(x, 6) for x in dense(codes, index).tolist()] for index in features]
    return {"features": strongest, "chosen": chosen}


def dense(codes: Codes, feature: int) -> Tensor:
    """What one latent does on every token, ``[n]``."""
    return torch.where(codes.indices == feature, codes.values, 0.0).sum(-1)


def _strongest(
    indices: Sequence[int], values: Sequence[float], top_k: int, only: set[int] | None
) -> list[list[float]]:
    found = [
        (value, index)
        for index, value in zip(indices, values, strict=True)
        if value > 0 and (only is None or index in only)
    ]
    found.sort(key=lambda item: (-item[0], item[1]))
    kept = found if only is not None else found[:top_k]
    return [[index, round(value, 6)] for value, index in kept]
