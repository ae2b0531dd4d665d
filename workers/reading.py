"""Activations of the latents of one or several SAEs on a text, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.models.columns import Limits
from monosemy.models.host import HostModel
from monosemy.saes.base import SAE
from monosemy.saes.codes import Codes
from monosemy.specs.hooks import Hooks
from monosemy.specs.inference.activations import ActivationsAnswer, SaeActivations
from workers.prompts import Prompt
from workers.warm_host import Coded, Row, Use, WarmHost


@dataclass(frozen=True)
class WarmSae:
    sae: SAE
    prepend_bos: bool
    """Whether the rows it was trained on began with BOS."""
    hooks: Hooks
    """Where it reads and writes."""
    max_norm: Limits = None
    """Norm above which its training left tokens out."""

    def hosted(self, host: HostModel) -> HostedSAE:
        """It in its host model, as its folder has it; raises as ``HostedSAE``."""
        return HostedSAE(host, self.sae, self.hooks, self.max_norm)


@dataclass(frozen=True)
class Wanted:
    """An SAE that is to read a text, and which features to report."""

    warm: WarmSae
    site: str
    features: Sequence[int] | None
    """What these do on every token; None takes none."""
    only: bool = True
    """Where there are features: only these are told token by token, as far as they fire; otherwise
    the ``top_k`` strongest."""
    unexplained: bool = False
    """Also what the SAE leaves unexplained, unless it transcodes."""

    def use(self) -> Use:
        told = self.unexplained and not self.warm.sae.transcodes
        return Use(self.warm.sae, self.site, told)


def activations(
    host: WarmHost, prompt: Prompt, wanted: Sequence[Wanted], top_k: int, clip: bool = False
) -> ActivationsAnswer:
    """One reading for each wanted.

    A leading BOS is read and not reported.  SAEs that want the same BOS share one forward, as
    far as the deepest site.  ``clip``: of a text that is too long its beginning is read.
    Raises ``DataError`` for a text that is empty or too long and for features that do not exist;
    ``UnknownSite``.
    """
    for each in wanted:
        check_features(each.warm.sae, each.features)
    rows = [host.words.row(prompt, each.warm.prepend_bos) for each in wanted]
    left_out = 0
    if clip:
        # All of them read the same tokens: one with a BOS has room for one less.
        whole = len(rows[0][0]) - rows[0][1]
        room = min(whole, *(host.longest - skip for _, skip in rows))
        rows, left_out = [(ids[: room + skip], skip) for ids, skip in rows], whole - room
    places: dict[int, list[int]] = {}  # leading tokens -> who wants so many
    for place, (_, skip) in enumerate(rows):
        places.setdefault(skip, []).append(place)
    coded: dict[int, Coded] = {}
    asked = [
        Row(
            rows[group[0]][0],
            skip,
            tuple(wanted[place].use() for place in group),
        )
        for skip, group in places.items()
    ]
    for group, read in zip(places.values(), host.read(asked), strict=True):
        coded.update(zip(group, read, strict=True))
    ids, skip = rows[0]
    return ActivationsAnswer(
        tokens=host.words.pieces(ids[skip:]),
        saes=[_reading(coded[place], each, top_k) for place, each in enumerate(wanted)],
        left_out=left_out,
    )


def check_features(sae: SAE, features: Sequence[int] | None) -> None:
    """Raises ``DataError`` for features that do not exist."""
    if features is not None and not all(0 <= feature < sae.d_sae for feature in features):
        raise DataError(f"A feature does not exist; this SAE has 0 to {sae.d_sae - 1}.")


def _reading(coded: Coded, wanted: Wanted, top_k: int) -> SaeActivations:
    codes, features = coded.codes, wanted.features
    only = None if features is None or not wanted.only else set(features)
    strongest = [
        _strongest(indices, values, top_k, only)
        for indices, values in zip(codes.indices.tolist(), codes.values.tolist(), strict=True)
    ]
    chosen = None
    if features is not None:
        chosen = [[round(x, 6) for x in dense(codes, index).tolist()] for index in features]
    unexplained = None
    if wanted.unexplained and coded.unexplained is not None:
        unexplained = [round(x, 6) for x in coded.unexplained.tolist()]
    return SaeActivations(
        features=strongest,
        chosen=chosen,
        unexplained=unexplained,
        fires=[int(n) for n in codes.l0().tolist()],
    )


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
