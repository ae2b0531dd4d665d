"""What each feature of an SAE at several places reads and writes at each of them, through the
weights alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.index.evidence import PlaceEvidence, TokenEffect
from monosemy.index.logits import LogitLens
from monosemy.saes.base import SAE
from monosemy.saes.crosscoder import Crosscoder
from monosemy.specs.hooks import Hook, Hooks

PLACES_WITH_TOKENS = 4
"""Of what a feature writes, only so many places are put through the unembedding."""

TOKENS = 4
"""Promoted tokens kept of each of these."""


class PlaceLengths:
    """Lengths of the rows of encoder and decoder by place, and what the longest promote.

    A crosscoder's are in the units of its training, in which its places have activations of one
    size and norms are comparable (Lindsey et al. 2024); other SAEs keep no such units.
    """

    def __init__(self, sae: SAE, hooks: Hooks, lens: LogitLens, texts: Sequence[str]) -> None:
        """``hooks`` with widths; ``texts`` of each token id."""
        self.sae, self.hooks, self.lens, self.texts = sae, hooks, lens, texts
        self.unit: Tensor | None = sae.written_scale if isinstance(sae, Crosscoder) else None

    def of(self, first: int, last: int, written_FD: Tensor) -> list[list[PlaceEvidence]]:
        """Of the latents from ``first`` to before ``last``, which write ``written_FD`` ``[n,
        d_out]``: the places where each reads or writes, those that it reads first; none of an SAE
        of one place."""
        if len(self.hooks.places) < 2:
            return [[] for _ in range(first, last)]
        writes_FM = self._lengths(
            written_FD if self.unit is None else written_FD * self.unit, self.hooks.written_parts
        )
        reads_FM = self._reads(first, last)
        promoted = self._promoted(written_FD, writes_FM)
        places = []
        for latent in range(last - first):
            reads = self._nonzero(self.hooks.reads, reads_FM, latent)
            writes = self._nonzero(self.hooks.writes, writes_FM, latent)
            places.append(
                [
                    PlaceEvidence(
                        str(hook), reads.get(hook), writes.get(hook), promoted[latent].get(hook, [])
                    )
                    for hook in dict.fromkeys((*reads, *writes))
                ]
            )
        return places

    def _reads(self, first: int, last: int) -> Tensor | None:
        """None of an encoder without a linear first step."""
        try:
            rows_FD, _ = self.sae.encoder_rows(torch.arange(first, last, device=self.sae.device))
        except DataError:
            return None
        if self.unit is not None and self.hooks.reads == self.hooks.writes:
            rows_FD = rows_FD / self.unit
        return self._lengths(rows_FD, self.hooks.read_parts)

    @staticmethod
    def _lengths(rows_FD: Tensor, parts: Mapping[Hook, slice]) -> Tensor:
        """``[n, places]``, on the CPU."""
        return torch.stack(
            [rows_FD[:, part].float().norm(dim=1) for part in parts.values()], 1
        ).cpu()

    @staticmethod
    def _nonzero(hooks: Sequence[Hook], lengths: Tensor | None, latent: int) -> dict[Hook, float]:
        if lengths is None:
            return {}
        pairs = zip(hooks, lengths[latent].tolist(), strict=True)
        return {hook: length for hook, length in pairs if length > 0}

    def _promoted(
        self, written_FD: Tensor, writes_FM: Tensor
    ) -> list[dict[Hook, list[TokenEffect]]]:
        """By feature and place; none where all is written at one place, whose tokens are the
        feature's own."""
        promoted: list[dict[Hook, list[TokenEffect]]] = [{} for _ in range(len(writes_FM))]
        if len(self.hooks.writes) < 2:
            return promoted
        most = writes_FM.topk(min(PLACES_WITH_TOKENS, writes_FM.shape[1]), dim=1).indices
        chosen_FM = torch.zeros_like(writes_FM, dtype=torch.bool).scatter_(1, most, True)
        chosen_FM &= writes_FM > 0
        for place, (hook, part) in enumerate(self.hooks.written_parts.items()):
            latents = chosen_FM[:, place].nonzero().squeeze(1)
            rows = written_FD[latents.to(written_FD.device)][:, part]
            strongest = self.lens.promoted_at(hook, rows, TOKENS) if len(latents) else None
            if strongest is None:
                continue
            for latent, ids, effects in zip(
                latents.tolist(), strongest.ids.tolist(), strongest.effects.tolist(), strict=True
            ):
                promoted[latent][hook] = [
                    TokenEffect(token, self.texts[token], effect)
                    for token, effect in zip(ids, effects, strict=True)
                ]
        return promoted
