"""The hierarchical tree of Costa et al. (2025, arXiv 2506.03093, section 4): known features whose
parents and children are orthogonal while siblings may be correlated."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

N_FEATURES = 20
INNER = {0: (1, 2, 3), 4: (5, 6, 7), 8: (9, 10, 11)}
"""Parents with children; 12 to 19 are parents without."""
PARENT_OF = {child: parent for parent, children in INNER.items() for child in children}
LEAVES = tuple(range(12, 20))
_INNER_SHARE, _LEAF_SHARE, _CHILD_SHARE = 0.2, 0.05, 0.2

# For sibling correlations 0, .1, ..., .8: how far features are drawn towards their group.
_PARENT_PULL = (0.0, 0.3, 0.44, 0.529, 0.594, 0.6467, 0.692, 0.733, 0.7739)
_CHILD_PULL = (0.0, 0.0895, 0.163, 0.226, 0.282, 0.3335, 0.3825, 0.431, 0.482)


class Sample(NamedTuple):
    x_ND: Tensor
    magnitudes_NF: Tensor
    """What is active, and how much: ``x = magnitudes @ features``."""


class Tree:
    """``correlation`` (0 to 0.8 in tenths) is that among siblings; features are unit rows in
    ``features_FD``, 20 in 20 dimensions.  Magnitudes are N(1.5, 0.25^2).

    ``ValueError`` for any other correlation.
    """

    def __init__(self, seed: int, correlation: float = 0.0) -> None:
        tenth = round(correlation * 10)
        if not 0 <= tenth < len(_PARENT_PULL) or abs(tenth - correlation * 10) > 1e-9:
            raise ValueError("correlation is 0, 0.1, ... or 0.8")
        self.generator = torch.Generator().manual_seed(seed)
        basis = torch.linalg.qr(torch.randn(N_FEATURES, N_FEATURES, generator=self.generator))[0]
        self.features_FD = basis.clone()
        parents = [*INNER, *LEAVES]
        self._pull(basis, parents, _PARENT_PULL[tenth])
        for children in INNER.values():
            self._pull(basis, list(children), _CHILD_PULL[tenth])

    def _pull(self, basis: Tensor, group: list[int], share: float) -> None:
        for i in group:
            others = basis[[j for j in group if j != i]].sum(0) / (len(group) - 1)
            pulled = (1 - share) * basis[i] + share * others
            self.features_FD[i] = pulled / pulled.norm()

    def sample(self, n: int) -> Sample:
        """Exactly one parent per sample; an inner one has one child or none (E[L0] = 1.36)."""
        parents = torch.tensor([*INNER, *LEAVES])
        shares = torch.tensor([_INNER_SHARE] * len(INNER) + [_LEAF_SHARE] * len(LEAVES))
        chosen = torch.multinomial(shares, n, replacement=True, generator=self.generator)
        active = torch.zeros(n, N_FEATURES)
        rows = torch.arange(n)
        active[rows, parents[chosen]] = 1.0
        offset = (torch.rand(n, generator=self.generator) / _CHILD_SHARE).long() + 1
        has_child = (chosen < len(INNER)) & (offset <= 3)
        active[rows[has_child], (parents[chosen] + offset)[has_child]] = 1.0
        sizes = 1.5 + 0.25 * torch.randn(n, N_FEATURES, generator=self.generator)
        magnitudes = active * sizes
        return Sample(magnitudes @ self.features_FD, magnitudes)
