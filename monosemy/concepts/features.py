"""Which features are a concept's: strongest in its texts, more than in texts without it.  Needs
torch.

``F(p)`` are the ``top_k`` latents of the largest maximum over the tokens of a text p, of those that
fire at all.  By the rule ``difference``, the paper's, the concept's are the union of F over the
targets less that over the retain texts.  By ``share`` see ``monosemy.concepts.shares``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from monosemy.concepts.readings import Readings
from monosemy.concepts.shares import in_more_targets
from monosemy.errors import DataError
from monosemy.saes.base import SAE
from monosemy.specs.concepts import ChoiceRule
from monosemy.specs.rest.concepts import ConceptFeature

_LISTED = 1000
"""Features that are told one by one."""

Strongest = dict[int, float]
"""``F`` of a text: the maximum of each."""


@dataclass(frozen=True)
class Chosen:
    """Features by the targets and the retain texts that choose."""

    own: tuple[int, ...]
    """The concept's: those of most targets first, by ``share`` those of the highest correlation."""
    all: tuple[int, ...]
    """Of any target, those of the retain texts included."""
    counts: dict[int, int]
    """Of ``all``: among whose strongest features it is, in targets,"""
    retain_counts: dict[int, int]
    """and in retain texts."""
    maxima: dict[int, float]
    """Of ``all``: the largest activation in the targets."""
    firing: tuple[int, ...]
    """Every feature that fires in any of the texts."""


class Choosing:
    """Texts that choose features, by either rule."""

    def __init__(self, sae: SAE, targets: Readings, retain: Readings, top_k: int) -> None:
        self._sae, self._targets, self._retain = sae, targets, retain
        self._fires_F = torch.zeros(sae.d_sae, dtype=torch.bool)
        self._of_targets, self._of_retain = (
            [self._strongest(texts, text, top_k) for text in range(len(texts))]
            for texts in (targets, retain)
        )

    def _strongest(self, texts: Readings, text: int, top_k: int) -> Strongest:
        most_F = texts.strongest(text, len(self._fires_F))
        self._fires_F |= most_F > 0
        values, latents = most_F.topk(min(top_k, len(most_F)))
        pairs = zip(latents.tolist(), values.tolist(), strict=True)
        return {latent: value for latent, value in pairs if value > 0}

    @cached_property
    def _counts(self) -> tuple[dict[int, int], dict[int, int]]:
        """In how many targets, and retain texts, a feature is among the strongest."""
        counts: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for of, texts in zip(counts, (self._of_targets, self._of_retain), strict=True):
            for strongest in texts:
                for latent in strongest:
                    of[latent] = of.get(latent, 0) + 1
        return counts

    def choose(self, rule: ChoiceRule, seed: int = 0) -> Chosen:
        """``DataError`` where no feature is left."""
        counts, others = self._counts
        maxima: dict[int, float] = {}
        for strongest in self._of_targets:
            for latent, value in strongest.items():
                maxima[latent] = max(value, maxima.get(latent, 0.0))
        ranked = sorted(counts, key=lambda latent: (-counts[latent], -maxima[latent], latent))
        if not ranked:
            raise DataError("No feature of the SAE fires in the targets.")
        if rule == "share":
            texts = [*self._of_targets, *self._of_retain]
            own = in_more_targets(self._sae, (self._targets, self._retain), texts, seed)
        else:
            own = tuple(latent for latent in ranked if latent not in others)
        if not own:
            raise DataError(*_none_left(rule, len(ranked)))
        firing = tuple(self._fires_F.nonzero().flatten().tolist())
        known = {latent: others.get(latent, 0) for latent in ranked}
        return Chosen(own, tuple(ranked), counts, known, maxima, firing)


def listed(chosen: Chosen, targets: Readings, retain: Readings, d_sae: int) -> list[ConceptFeature]:
    """The first of the concept's features, with how often they fire in test texts: ``targets`` and
    ``retain``."""
    latents = list(chosen.own[:_LISTED])
    shares = []
    for texts in (targets, retain):
        fires = [texts.strongest(text, d_sae)[latents] > 0 for text in range(len(texts))]
        shares.append(torch.stack(fires).double().mean(0).tolist())
    return [
        ConceptFeature(
            index=latent,
            targets=chosen.counts[latent],
            retain=chosen.retain_counts[latent],
            maximum=chosen.maxima[latent],
            test_targets=on,
            test_retain=off,
        )
        for latent, on, off in zip(latents, *shares, strict=True)
    ]


def _none_left(rule: ChoiceRule, strongest: int) -> tuple[str, str]:
    if rule == "share":
        return (
            f"No feature is left: none of the {strongest:,} strongest of the targets is so in more"
            " targets than retain texts, beyond chance.",
            "Give more texts, a larger top_k, or the rule difference.",
        )
    return (
        f"No feature is left: each of the {strongest:,} strongest of the targets is among the"
        " strongest of the retain texts too.",
        "Take a smaller top_k, fewer retain texts, an SAE with more features, or the rule share.",
    )
