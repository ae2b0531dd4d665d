"""Edits by few features: which to switch off, on or over so that one activation becomes another's.

Greedy, as in arXiv 2405.08366 (section 5): again and again the feature whose change brings the edit
nearest to the wanted difference.  With ``r`` what is still missing, changing feature j by ``delta``
lessens the squared distance by ``2 delta (r . d_j) - delta^2 |d_j|^2``, so that no ``[n, F, d]``
tensor is needed: only what is active in one of the two can change.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.saes.codes import Codes

_AT_ONCE = 64
"""Pairs whose candidates' rows are held together."""


@dataclass(frozen=True)
class Changes:
    """What may change from one activation to another, ``[n, C]`` each; entries of 0 stand for
    nothing."""

    features: Tensor
    before: Tensor
    """Activation where the edit begins."""
    after: Tensor
    """Activation in the counterfactual."""

    @property
    def deltas(self) -> Tensor:
        """Changes of activation."""
        return self.after - self.before


@dataclass(frozen=True)
class SparseEdit:
    """Greedy edits of n activations, after each of so many picks."""

    moved: dict[int, Tensor]
    """By the largest number of features: ``[n, d]``, what is added to the activation."""
    edited: dict[int, Tensor]
    """``[n]``: features that were changed; less where no further one helps."""
    removed: dict[int, Tensor]
    """``[n]``: the sum of the weights of what was taken away (see ``weights``)."""


def changes(source: Codes, target: Codes) -> Changes:
    """The union of what is active in either, each feature once."""
    same_NKL = (source.indices[:, :, None] == target.indices[:, None, :]) & (
        (source.values > 0)[:, :, None] & (target.values > 0)[:, None, :]
    )
    after_NK = (same_NKL * target.values[:, None, :]).sum(2)
    new_NL = torch.where(same_NKL.any(1), 0.0, target.values)
    return Changes(
        torch.cat([source.indices, target.indices], 1),
        torch.cat([source.values, torch.zeros_like(new_NL)], 1),
        torch.cat([after_NK, new_NL], 1),
    )


def greedy_edit(
    source: Codes,
    target: Codes,
    rows_FD: Tensor,
    wanted_ND: Tensor,
    counts: list[int],
) -> SparseEdit:
    """Edits by at most ``counts`` features each, towards ``wanted_ND`` (target less source
    activations, ``[n, d]``)."""
    parts = []
    for first in range(0, len(wanted_ND), _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        found = changes(
            Codes(source.indices[rows], source.values[rows]),
            Codes(target.indices[rows], target.values[rows]),
        )
        parts.append(_greedy(found, wanted_ND[rows], rows_FD, counts))
    return SparseEdit(
        *(
            {count: torch.cat([getattr(part, name)[count] for part in parts]) for count in counts}
            for name in ("moved", "edited", "removed")
        )
    )


def _greedy(found: Changes, wanted_ND: Tensor, rows_FD: Tensor, counts: list[int]) -> SparseEdit:
    rows_NCD = rows_FD[found.features]
    weights_NC = weights(found.features, found.before, rows_FD)
    delta_NC = found.deltas
    # What is only lessened is taken away in part.
    taken_NC = (-delta_NC).clamp_min(0) / found.before.clamp_min(1e-30)
    length_NC = rows_NCD.square().sum(-1)
    n = torch.arange(len(rows_NCD))
    moved_ND = torch.zeros_like(wanted_ND)
    edited_N = torch.zeros(len(n), dtype=torch.long)
    removed_N = torch.zeros(len(n))
    result = SparseEdit({}, {}, {})
    for pick in range(max(counts) + 1):
        if pick in counts:
            result.moved[pick] = moved_ND.clone()
            result.edited[pick] = edited_N.clone()
            result.removed[pick] = removed_N.clone()
        if pick == max(counts):
            break
        along_NC = torch.einsum("ncd,nd->nc", rows_NCD, wanted_ND - moved_ND)
        gain_N, best_N = (2 * delta_NC * along_NC - delta_NC.square() * length_NC).max(1)
        helps_N = (gain_N > 0).float()
        delta_N = delta_NC[n, best_N] * helps_N
        moved_ND = moved_ND + delta_N[:, None] * rows_NCD[n, best_N]
        edited_N += (delta_N != 0).long()
        removed_N = removed_N + helps_N * taken_NC[n, best_N] * weights_NC[n, best_N]
        delta_NC[n, best_N] = 0.0
    return result


def weights(features_NC: Tensor, values_NC: Tensor, rows_FD: Tensor) -> Tensor:
    """``[n, C]``: which part of a reconstruction each feature is, ``f_j d_j . (x - b) / |x - b|^2``
    with ``x - b`` what the features add up to; they sum to 1 where that is not 0."""
    added_NCD = values_NC[..., None] * rows_FD[features_NC]
    whole_ND = added_NCD.sum(1)
    length_N = whole_ND.square().sum(1).clamp_min(1e-30)
    return torch.einsum("ncd,nd->nc", added_NCD, whole_ND) / length_N[:, None]


def scaled_magnitude(removed_N: Tensor, supervised_N: Tensor) -> Tensor:
    """Sums of weights, such that 0 is what the supervised edit takes away and 1 everything."""
    return (removed_N - supervised_N) / (1 - supervised_N)
