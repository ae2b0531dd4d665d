"""Texts as vectors of a host model, a concept taken out in one way or another.  Needs torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.concepts.deactivation import Deactivation
from monosemy.concepts.readings import TOKENS_AT_ONCE, token_rows
from monosemy.hosted_sae import HostedSAE
from monosemy.interventions.edits import Interventions
from monosemy.interventions.intervention import Function, Intervention, replace
from monosemy.interventions.rows import joined
from monosemy.models.rows import batches, padded
from monosemy.models.text_embedding import text_embeddings
from monosemy.specs.concepts import TextEmbedding
from monosemy.specs.rest.concepts import EmbeddingKind


@dataclass(frozen=True)
class Way:
    """A way to take the concept out."""

    name: str
    kind: EmbeddingKind
    change: Intervention | None
    """At the SAE's site; None for none."""
    features: int | None = None
    scale: float | None = None
    every: bool = False
    """Whether it changes every text, as it tells none."""

    @classmethod
    def by(
        cls,
        name: str,
        kind: EmbeddingKind,
        site: str,
        deactivation: Deactivation,
        scale: float,
    ) -> Way:
        """By features that are multiplied by ``scale``."""
        change = deactivation.intervention(site)
        return cls(name, kind, change, len(deactivation.latents), scale)

    @classmethod
    def everywhere(cls, site: str, eraser: Callable[[Tensor], Tensor]) -> Way:
        """LEACE, of tokens ``[n, width]`` on the CPU."""

        def erased(x_ND: Tensor) -> Tensor:
            return eraser(x_ND.cpu()).to(x_ND)

        change = replace(Function(erased, site))
        return cls("LEACE, every text", "leace", change, every=True)


def ways_of(
    hosted: HostedSAE,
    ways: Sequence[tuple[str, EmbeddingKind, Sequence[int], float]],
    keep_error: bool,
    eraser: Callable[[Tensor], Tensor],
) -> list[Way]:
    """None; ``ways`` by features: name, kind, features, and what these are multiplied by; and
    ``eraser`` of the SAE's activations ``[n, width]``."""
    tried = [Way("nothing", "nothing", None)]
    for name, kind, latents, scale in ways:
        off = Deactivation(hosted.sae, dict.fromkeys(latents, scale), keep_error)
        tried.append(Way.by(name, kind, hosted.target, off, scale))
    return [*tried, Way.everywhere(hosted.target, eraser)]


class TextVectors:
    """Embeddings of texts by a host model, changed or not."""

    def __init__(self, hosted: HostedSAE, prepend_bos: bool) -> None:
        self._hosted, self._prepend_bos = hosted, prepend_bos
        self.advance: Callable[[int], None] = lambda _: None
        """Is told of texts read."""
        self.kind: TextEmbedding = hosted.host.abilities.text_embedding
        self._skip = int(prepend_bos and hosted.host.bos_id is not None)

    def of(
        self,
        texts: Sequence[str],
        change: Intervention | None = None,
        changed: Sequence[bool] | None = None,
    ) -> Tensor:
        """``[n, E]``, float64 on the CPU; ``change`` holds in those texts that are ``changed``, at
        all their tokens but BOS."""
        host = self._hosted.host
        rows = token_rows(host, texts, self._prepend_bos)
        edits = None if change is None else Interventions([change], self._hosted)
        sets = [edits if each else None for each in changed or [False] * len(rows)]
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        ordered = [rows[number] for number in order]
        parts: list[Tensor] = [torch.empty(0)] * len(rows)
        for chosen in batches(ordered, 1, TOKENS_AT_ONCE):
            ids_BS, mask_BS = padded(ordered[chosen], host.pad_id)
            where_BS = mask_BS.bool()
            where_BS[:, : self._skip] = False
            edit = joined([sets[number] for number in order[chosen]], where_BS, 0)
            value_BE = text_embeddings(host, ids_BS, mask_BS, edit, self._skip).double().cpu()
            for number, value_E in zip(order[chosen], value_BE, strict=True):
                parts[number] = value_E
            self.advance(len(ids_BS))
        return torch.stack(parts)
