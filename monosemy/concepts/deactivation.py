"""Features of a concept multiplied by a factor: what is taken out, and how a text is told by it.
Needs torch.

Where several concepts hold at once, a feature that two of them have gets the lower factor, and the
SAE's error is dropped if one of them drops it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.interventions.intervention import Function, Intervention, Where, add, replace
from monosemy.saes.base import SAE
from monosemy.saes.codes import Codes
from monosemy.specs.concepts import FittedConcept, Scoring
from monosemy.specs.inference.steering import HeldConcept


class Deactivation:
    """Latents of one SAE, each with a factor.  ``DataError`` for a latent that it does not have."""

    def __init__(self, sae: SAE, factors: Mapping[int, float], keep_error: bool = True) -> None:
        unknown = [latent for latent in factors if not 0 <= latent < sae.d_sae]
        if unknown:
            raise DataError(f"The SAE has {sae.d_sae} latents, so none is number {unknown[0]}.")
        self._sae, self.keep_error = sae, keep_error
        self.latents = frozenset(factors)
        less_F = torch.zeros(sae.d_sae)
        if factors:
            less_F[list(factors)] = torch.tensor([float(factor) for factor in factors.values()]) - 1
        self._less_F = less_F.to(sae.device)

    @classmethod
    def of(cls, sae: SAE, concepts: Sequence[FittedConcept]) -> Deactivation:
        """All of these at once."""
        factors: dict[int, float] = {}
        for concept in concepts:
            for latent in concept.features:
                factors[latent] = min(concept.scale, factors.get(latent, concept.scale))
        return cls(sae, factors, all(concept.keep_error for concept in concepts))

    def changed(self, codes: Codes) -> Codes:
        """What is added to the codes: ``(factor - 1) * activation`` of the concept's latents, 0 of
        all others."""
        return Codes(codes.indices, codes.values * self._less_F[codes.indices])

    def change(self, codes: Codes) -> Tensor:
        """What is added to the activations where the SAE's error is kept, ``[n, d]``."""
        return self._sae.decode_without_bias(self.changed(codes)).detach()

    def reconstruction(self, codes: Codes, x_ND: Tensor) -> Tensor:
        """``[n, d]``, deactivated."""
        values = codes.values + self.changed(codes).values
        return self._sae.decode(Codes(codes.indices, values), x_ND).detach()

    def token_scores(self, codes: Codes, x_ND: Tensor, how: Scoring) -> Tensor:
        """By ``how``, of each token ``[n]``."""
        if how == "removed":
            return self.change(codes).square().mean(-1)
        return (x_ND - self.reconstruction(codes, x_ND)).square().mean(-1)

    def intervention(self, site: str) -> Intervention:
        """As an intervention at the SAE's site; tokens that it does not change keep their
        activations bit for bit."""
        if self.keep_error:
            return add(Function(self._added, site), where=Where(when=self._fires))
        return replace(Function(self._put, site))

    def _added(self, x_ND: Tensor) -> Tensor:
        return self.change(self._encoded(x_ND))

    def _put(self, x_ND: Tensor) -> Tensor:
        x_ND = x_ND.to(self._sae.device)
        return self.reconstruction(self._encoded(x_ND), x_ND)

    def _fires(self, x_BSD: Tensor) -> Tensor:
        codes = self._encoded(x_BSD.flatten(0, 1).float())
        fires_N = (self.changed(codes).values != 0).any(-1)
        return fires_N.reshape(x_BSD.shape[:2]).to(x_BSD.device)

    @torch.no_grad()
    def _encoded(self, x_ND: Tensor) -> Codes:
        codes = self._sae.encode(x_ND.to(self._sae.device))
        return Codes(codes.indices, codes.values.detach())


def text_score(token_scores_N: Tensor) -> float:
    """Of a text: that of its highest token; 0 where it has none."""
    return float(token_scores_N.max()) if len(token_scores_N) else 0.0


def score_tokens(sae: SAE, x_ND: Tensor, concepts: Sequence[FittedConcept]) -> list[float]:
    """The score of a text for each concept, each by itself; ``x_ND`` are its tokens' activations
    without BOS."""
    if not concepts:
        return []
    with torch.no_grad():
        x_ND = x_ND.float().to(sae.device)
        codes = sae.encode(x_ND)
    codes = Codes(codes.indices, codes.values.detach())
    one = partial(Deactivation.of, sae)
    return [text_score(one([each]).token_scores(codes, x_ND, each.score)) for each in concepts]


def held_against(sae: SAE, x_ND: Tensor, concepts: Sequence[FittedConcept]) -> list[HeldConcept]:
    """Whether a text is flagged for each concept; arguments as ``score_tokens`` has them."""
    scores = score_tokens(sae, x_ND, concepts)
    return [
        HeldConcept(
            name=each.name, flagged=score > each.threshold, score=score, threshold=each.threshold
        )
        for each, score in zip(concepts, scores, strict=True)
    ]
