"""How far an intervention moves what the host model says after some prompts.  Needs torch.

After Paulo et al. (arXiv 2410.13928, section 4): the change holds from the last token of the prompt
on, at every new token too, and its strength is set by how far it moves the next token's
distribution.  Every step is a whole forward of rows padded on the right; nothing is cached.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.interventions.edits import Interventions
from monosemy.interventions.generation import (
    Generation,
    Row,
    generate,
    last_logits,
)
from monosemy.interventions.intervention import Direction, Intervention, add
from monosemy.interventions.places import Places
from monosemy.models.rows import LOGITS_AT_ONCE, Ids, padded
from monosemy.specs.inference.places import TokenPlaces

TOLERANCE = 0.1
"""How near the wanted KL has to be met, as a share of it."""
_LOOKS = 40
_LARGEST = 1e4
"""Multiple of the first strength tried beyond which a latent counts as without effect."""

_FROM_LAST = TokenPlaces(where="new")


class PromptEffects:
    """Prompts of one host model, as predicted and continued with and without an intervention.

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
    def predictions(self, intervention: Intervention | None = None) -> Tensor:
        """Log probabilities ``[prompts, V]`` (float64, CPU) of what follows the last token."""
        host = self.hosted.host
        changed = Places(host, _FROM_LAST)
        places = [changed.of_prompt(prompt) for prompt in self.prompts]
        change = [self._set(intervention)] * len(self.prompts)
        logits_PV = last_logits(host, self.prompts, places, change, self.logits_at_once)
        return logits_PV.double().log_softmax(-1)

    @cached_property
    def clean(self) -> Tensor:
        """``predictions()`` without any intervention."""
        return self.predictions()

    def divergence(self, intervention: Intervention) -> float:
        """Mean over prompts of KL(intervened || clean) of the next token, in nats."""
        edited_PV = self.predictions(intervention)
        kl_P = (edited_PV.exp() * (edited_PV - self.clean)).nan_to_num(nan=math.inf).sum(-1)
        return max(0.0, float(kl_P.mean()))

    def tuned(self, latent: int, kl: float) -> tuple[Intervention, float]:
        """The addition that moves the next token by ``kl`` nats (within 10 %), and its real KL.

        Its strength is the length of the vector that is added.  ``DataError`` for a latent that
        cannot.
        """
        direction = self.direction(latent)

        def reached(strength: float) -> float:
            return self.divergence(add(direction, strength))

        strength, real = tune_strength(reached, kl, 0.1 * self._norm())
        return add(direction, strength), real

    def direction(self, latent: int) -> Direction:
        """The latent's unit decoder direction, where the SAE writes."""
        return Direction.of(self.hosted.direction(latent).tolist(), self.hosted.target)

    def _norm(self) -> float:
        """Mean norm of the target's activations at the last token of each prompt."""
        ids_BS, mask_BS = padded(self.prompts, self.hosted.host.pad_id)
        target = self.hosted.target
        acts_BSD = self.hosted.host.capture(ids_BS, mask_BS, [target])[target]
        rows_B = torch.arange(len(self.prompts), device=acts_BSD.device)
        last_B = (mask_BS.sum(-1) - 1).to(acts_BSD.device)
        return float(acts_BSD[rows_B, last_B].float().norm(dim=-1).mean())

    def continued(
        self, new_tokens: int, seeds: Sequence[int], intervention: Intervention | None = None
    ) -> list[Ids]:
        """``new_tokens`` ids after each prompt, sampled at temperature 1.

        Each prompt has the noise of its own seed, so a text depends neither on its batch nor on
        chance, and one seed with and without intervention meets the same noise: an intervention
        without effect writes the same text.  The end of text is a token like others, so all
        continuations have the same length.
        """
        change = self._set(intervention)
        rows = [Row(prompt, change, seed) for prompt, seed in zip(self.prompts, seeds, strict=True)]
        how = Generation(new_tokens, temperature=1.0, places=_FROM_LAST, stop=False, cache=False)
        steps = list(generate(self.hosted.host, rows, how, self.logits_at_once))
        return [
            tuple(each.token for each in row if each is not None)
            for row in zip(*steps, strict=True)
        ]

    def _set(self, intervention: Intervention | None) -> Interventions | None:
        return None if intervention is None else Interventions([intervention], self.hosted)


def tune_strength(
    reached: Callable[[float], float], wanted: float, start: float
) -> tuple[float, float]:
    """The strength at which ``reached`` comes within 10 % of ``wanted``, and what it reaches there.

    First by steps that suppose a KL quadratic in the strength, as it is near 0, until the target
    lies between two strengths; then by bisection of the logarithm.  ``DataError`` where no strength
    up to 10,000 times ``start`` does it.
    """
    low, high, strength = 0.0, math.inf, start
    real = math.nan
    for _ in range(_LOOKS):
        real = reached(strength)
        if abs(real - wanted) <= TOLERANCE * wanted:
            return strength, real
        if real < wanted:
            low = strength
        else:  # too far, or not a number at all
            high = strength
        if low > 0 and high < math.inf:
            strength = math.sqrt(low * high)
        else:
            jump = math.sqrt(wanted / real) if 0 < real < math.inf else 16.0
            factor = min(16.0, max(jump, 1 / jump, 1.5))
            strength = strength * factor if real < wanted else strength / factor
        if not start / _LARGEST <= strength <= start * _LARGEST:
            break
    raise DataError(
        f"No strength of this latent moves the next token by {wanted:g} nats (last: {real:.3g}).",
        "Ask for another scoring.intervention.kl.",
    )
