"""Which features are a concept's: strongest in its texts, in no text without it.  Needs torch.

``F(p)`` are the ``top_k`` latents of the largest maximum over the tokens of a text p, of those that
fire at all.  The concept's are the union of F over the targets less that over the retain texts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from monosemy.concepts.readings import Readings
from monosemy.errors import DataError


@dataclass(frozen=True)
class Chosen:
    """Features by the targets and the retain texts that choose."""

    own: tuple[int, ...]
    """The concept's: those of most targets first."""
    all: tuple[int, ...]
    """Of any target, those of the retain texts included."""
    counts: dict[int, int]
    """Of ``all``: among whose strongest features it is, in targets."""
    maxima: dict[int, float]
    """Of ``all``: the largest activation in the targets."""
    firing: tuple[int, ...]
    """Every feature that fires in any of the texts."""


def choose(targets: Readings, retain: Readings, top_k: int, d_sae: int) -> Chosen:
    """``DataError`` where no feature is left."""
    counts: dict[int, int] = {}
    maxima: dict[int, float] = {}
    fires_F = torch.zeros(d_sae, dtype=torch.bool)
    for text in range(len(targets)):
        most_F = targets.strongest(text, d_sae)
        fires_F |= most_F > 0
        for latent, value in _top(most_F, top_k):
            counts[latent] = counts.get(latent, 0) + 1
            maxima[latent] = max(value, maxima.get(latent, 0.0))
    others: set[int] = set()
    for text in range(len(retain)):
        most_F = retain.strongest(text, d_sae)
        fires_F |= most_F > 0
        others.update(latent for latent, _ in _top(most_F, top_k))
    ranked = sorted(counts, key=lambda latent: (-counts[latent], -maxima[latent], latent))
    own = tuple(latent for latent in ranked if latent not in others)
    if not own:
        raise DataError(
            f"No feature is left: each of the {len(ranked):,} strongest of the targets is among the"
            " strongest of the retain texts too."
            if ranked
            else "No feature of the SAE fires in the targets.",
            "Take a smaller top_k, fewer retain texts, or an SAE with more features.",
        )
    firing = tuple(fires_F.nonzero().flatten().tolist())
    return Chosen(own, tuple(ranked), counts, maxima, firing)


def _top(most_F: torch.Tensor, top_k: int) -> list[tuple[int, float]]:
    values, indices = most_F.topk(min(top_k, len(most_F)))
    return [
        (latent, value)
        for latent, value in zip(indices.tolist(), values.tolist(), strict=True)
        if value > 0
    ]
