"""Interventions on one latent while the host model writes.  Needs torch.

After Paulo et al. (arXiv 2410.13928, section 4): the edit holds from the last token of the prompt
on, at every new token too, and its strength is set by how far it moves the next token's
distribution.  Every step is a whole forward of rows padded on the right; nothing is cached.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.interp.host_text import LOGITS_AT_ONCE, Ids, batches, padded
from monosemy.models.hook_points import Edit

TOLERANCE = 0.1
"""How near the wanted KL has to be met, as a share of it."""
_LOOKS = 40
_LARGEST = 1e4
"""Multiple of the first strength tried beyond which a latent counts as without effect."""


class Intervention(Protocol):
    def edits(self, where_BS: Tensor) -> Mapping[str, Edit]:
        """Edits for one forward; they leave every token alone at which ``where_BS`` is false."""


@dataclass(frozen=True)
class Addition:
    """Adds ``strength`` times the latent's unit decoder direction where the SAE writes."""

    hosted: HostedSAE
    latent: int
    strength: float

    def edits(self, where_BS: Tensor) -> Mapping[str, Edit]:
        if self.strength == 0:  # nothing to add: not even a rounding error
            return {}
        shift_D = self.strength * self.hosted.direction(self.latent)

        def add(acts_BSD: Tensor) -> Tensor:
            where = where_BS.to(acts_BSD.device)[..., None]
            shifted = (acts_BSD.float() + shift_D.to(acts_BSD.device)).to(acts_BSD)
            return torch.where(where, shifted, acts_BSD)

        return {self.hosted.target: add}


@dataclass(frozen=True)
class Ablation:
    """Takes the latent's part out of the reconstruction; the SAE's error stays as it is."""

    hosted: HostedSAE
    latent: int

    def edits(self, where_BS: Tensor) -> Mapping[str, Edit]:
        seen: list[Tensor] = []

        def look(acts_BSD: Tensor) -> Tensor:
            seen[:] = [acts_BSD]
            return acts_BSD

        def remove(acts_BSD: Tensor) -> Tensor:
            read_BSD = seen[0] if seen else acts_BSD
            part_BSD = self._part(read_BSD).to(acts_BSD.device)
            where = where_BS.to(acts_BSD.device)[..., None] & (part_BSD != 0).any(-1, keepdim=True)
            return torch.where(where, (acts_BSD.float() - part_BSD).to(acts_BSD), acts_BSD)

        if self.hosted.writes_to is None or self.hosted.writes_to == self.hosted.site:
            return {self.hosted.site: remove}
        return {self.hosted.site: look, self.hosted.writes_to: remove}

    def _part(self, read_BSD: Tensor) -> Tensor:
        """What the latent adds to the reconstruction of each token, ``[B, S, d_out]`` float32."""
        sae = self.hosted.sae
        codes = sae.encode(read_BSD.flatten(0, 1).float().to(sae.device))
        value_N = (codes.values * (codes.indices == self.latent)).sum(-1)
        return (value_N[:, None] * sae.W_dec[self.latent]).unflatten(0, read_BSD.shape[:2])


class Steering:
    """One hosted's prompts, as predicted and continued with and without an intervention.

    ``prompts`` are token ids with their BOS; none may be empty.
    """

    def __init__(
        self, hosted: HostedSAE, prompts: Sequence[Ids], logits_at_once: int = LOGITS_AT_ONCE
    ) -> None:
        if not prompts or not all(prompts):
            raise DataError("An intervention needs prompts, each with at least one token.")
        self.hosted = hosted
        self.prompts = prompts
        self.logits_at_once = logits_at_once

    @torch.no_grad()
    def predictions(
        self, intervention: Intervention | None = None, rows: Sequence[Ids] | None = None
    ) -> Tensor:
        """Log probabilities ``[prompts, V]`` (float64, CPU) of what follows the last token.

        ``rows`` are the prompts with what was written after each so far; None: nothing.
        """
        rows = self.prompts if rows is None else rows
        found = [
            self._last(rows[chosen], self.prompts[chosen], intervention)
            for chosen in batches(rows, self.hosted.host.d_vocab, self.logits_at_once)
        ]
        return torch.cat(found)

    def _last(
        self, rows: Sequence[Ids], prompts: Sequence[Ids], intervention: Intervention | None
    ) -> Tensor:
        host = self.hosted.host
        ids_BS, mask_BS = padded(rows, host.pad_id)
        place_S = torch.arange(ids_BS.shape[1])
        last_B = torch.tensor([len(prompt) - 1 for prompt in prompts])
        where_BS = (place_S >= last_B[:, None]) & mask_BS.bool()
        logits_BSV = host.logits(
            ids_BS, mask_BS, None if intervention is None else intervention.edits(where_BS)
        )
        end_B = (mask_BS.sum(-1) - 1).to(logits_BSV.device)
        chosen_BV = logits_BSV[torch.arange(len(rows), device=logits_BSV.device), end_B]
        return chosen_BV.cpu().double().log_softmax(-1)

    @cached_property
    def clean(self) -> Tensor:
        """``predictions()`` without any intervention."""
        return self.predictions()

    def divergence(self, intervention: Intervention, clean_PV: Tensor) -> float:
        """Mean over prompts of KL(intervened || clean) of the next token, in nats."""
        edited_PV = self.predictions(intervention)
        kl_P = (edited_PV.exp() * (edited_PV - clean_PV)).nan_to_num(nan=math.inf).sum(-1)
        return max(0.0, float(kl_P.mean()))

    def tuned(self, latent: int, kl: float) -> tuple[Addition, float]:
        """The addition that moves the next token by ``kl`` nats (within 10 %), and its real KL.

        ``DataError`` for a latent that cannot.
        """

        def reached(strength: float) -> float:
            return self.divergence(Addition(self.hosted, latent, strength), self.clean)

        strength, found = tune_strength(reached, kl, 0.1 * self._norm())
        return Addition(self.hosted, latent, strength), found

    def _norm(self) -> float:
        """Mean norm of the target's activations at the last token of each prompt."""
        ids_BS, mask_BS = padded(self.prompts, self.hosted.host.pad_id)
        target = self.hosted.target
        acts_BSD = self.hosted.host.capture(ids_BS, mask_BS, [target])[target]
        rows_B = torch.arange(len(self.prompts), device=acts_BSD.device)
        last_B = (mask_BS.sum(-1) - 1).to(acts_BSD.device)
        return float(acts_BSD[rows_B, last_B].float().norm(dim=-1).mean())

    def written(
        self, new_tokens: int, seeds: Sequence[int], intervention: Intervention | None = None
    ) -> list[Ids]:
        """``new_tokens`` ids after each prompt, sampled at temperature 1.

        Sampled by adding Gumbel noise drawn from each prompt's own seed, so a text depends neither
        on its batch nor on chance, and one seed with and without intervention meets the same noise:
        an intervention without effect writes the same text.  The end of text is a token like
        others, so all continuations have the same length.
        """
        noise = [torch.Generator().manual_seed(seed) for seed in seeds]
        rows = list(self.prompts)
        for _ in range(new_tokens):
            log_p_PV = self.predictions(intervention, rows)
            for i, generator in enumerate(noise):
                uniform_V = torch.rand(log_p_PV.shape[1], generator=generator, dtype=torch.float64)
                gumbel_V = -(-uniform_V.clamp_min(1e-300).log()).log()
                rows[i] = (*rows[i], int((log_p_PV[i] + gumbel_V).argmax()))
        return [row[len(prompt) :] for row, prompt in zip(rows, self.prompts, strict=True)]


def tune_strength(
    reached: Callable[[float], float], wanted: float, start: float
) -> tuple[float, float]:
    """The strength at which ``reached`` comes within 10 % of ``wanted``, and what it reaches there.

    First by steps that suppose a KL quadratic in the strength, as it is near 0, until the target
    lies between two strengths; then by bisection of the logarithm.  ``DataError`` where no strength
    up to 10,000 times ``start`` does it.
    """
    low, high, strength = 0.0, math.inf, start
    found = math.nan
    for _ in range(_LOOKS):
        found = reached(strength)
        if abs(found - wanted) <= TOLERANCE * wanted:
            return strength, found
        if found < wanted:
            low = strength
        else:  # too far, or not a number at all
            high = strength
        if low > 0 and high < math.inf:
            strength = math.sqrt(low * high)
        else:
            jump = math.sqrt(wanted / found) if 0 < found < math.inf else 16.0
            factor = min(16.0, max(jump, 1 / jump, 1.5))
            strength = strength * factor if found < wanted else strength / factor
        if not start / _LARGEST <= strength <= start * _LARGEST:
            break
    raise DataError(
        f"No strength of this latent moves the next token by {wanted:g} nats (last: {found:.3g}).",
        "Ask for another scoring.intervention.kl.",
    )
