"""Texts of known concepts: a dictionary of directions, of which each concept owns two, and one that
all of them share (methods 7.4)."""

from __future__ import annotations

import torch
from torch import Tensor

from monosemy.concepts.readings import Readings
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import TopKSpec

FEATURES, WIDTH, TOKENS, ACTIVE = 256, 64, 8, 3
TARGETS, OTHERS = 10, 20
SHARED = 0


class PlantedConcepts:
    """``TARGETS`` concepts to be found and ``OTHERS`` that are not: concept c owns the features
    1 + 2c and 2 + 2c; feature ``SHARED`` is in each of them."""

    def __init__(self, seed: int) -> None:
        self._draw = torch.Generator().manual_seed(seed)
        rows_FD = torch.randn(FEATURES, WIDTH, generator=self._draw)
        self.rows_FD = torch.nn.functional.normalize(rows_FD, dim=1)
        self.sae = self._oracle()

    @property
    def own(self) -> set[int]:
        """Features of the concepts that are to be found."""
        return {1 + 2 * c + side for c in range(TARGETS) for side in (0, 1)}

    def texts(self, targets: bool, each: int) -> Readings:
        """``each`` texts of every concept of one kind."""
        concepts = range(TARGETS) if targets else range(TARGETS, TARGETS + OTHERS)
        x_TD = torch.cat([self._text(concept) for concept in concepts for _ in range(each)])
        starts = tuple(range(0, len(x_TD) + 1, TOKENS))
        with torch.no_grad():
            codes = self.sae.encode(x_TD)
        return Readings(x_TD, codes, starts)

    def _text(self, concept: int) -> Tensor:
        """``[TOKENS, WIDTH]``: three features a token, the concept's at two tokens."""
        free = torch.arange(1 + 2 * (TARGETS + OTHERS), FEATURES)
        codes = torch.zeros(TOKENS, FEATURES)
        for token in range(TOKENS):
            picked = free[torch.randperm(len(free), generator=self._draw)[:ACTIVE]]
            codes[token, picked] = 0.5 + torch.rand(ACTIVE, generator=self._draw)
        first, second = torch.randperm(TOKENS, generator=self._draw)[:2].tolist()
        for token, side in ((first, 0), (second, 1)):
            codes[token] = 0
            others = free[torch.randperm(len(free), generator=self._draw)[:1]]
            codes[token, others] = 0.5 + torch.rand(1, generator=self._draw)
            codes[token, 1 + 2 * concept + side] = 1.5
            codes[token, SHARED] = 1.5
        return codes @ self.rows_FD

    def _oracle(self) -> SAE:
        sae = create(TopKSpec(d_sae=FEATURES, k=ACTIVE), WIDTH)
        with torch.no_grad():
            sae.W_dec.copy_(self.rows_FD)
            sae.W_enc.copy_(self.rows_FD.T)
        return sae.requires_grad_(False)
