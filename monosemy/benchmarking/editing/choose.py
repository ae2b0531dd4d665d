"""Which latents, or directions, carry an attribute: chosen by activations alone.

Given activations ``[n, P, d]`` of prompts and of their counterfactuals, of each attribute, at P
tokens.  An edit moves activations towards their counterfactuals by what is chosen; what else there
is, an SAE's error included, stays.  All tokens are changed at once, so they are weighed together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from monosemy.circuits.supervised.coders import Coder
from monosemy.circuits.supervised.sparse_edit import Changes, changes
from monosemy.saes.sparse_ops import weighted_rows

Pairs = Mapping[str, tuple[Tensor, Tensor]]
"""By attribute: activations of prompts and of counterfactuals that differ in it alone."""
Move = Callable[[Tensor, Tensor], Tensor]
"""What is added to activations ``[n, P, d]``, given those of the counterfactuals."""

_AT_ONCE = 64
_NOTHING = 1e-300


def latents_of(coder: Coder, pairs: Pairs, attribute: str) -> Tensor:
    """bool ``[P, d_sae]``: latents that stand for ``attribute`` at each token; may be none.

    By one half of the pairs they are ranked: by the share that a latent's change has in what
    differs with the attribute, less the mean size of its changes where another one differs, as a
    share of that.  By the other half is chosen how many are taken.
    """
    score_PF = torch.zeros(pairs[attribute][0].shape[1], len(coder.rows_FD), dtype=torch.float64)
    for name, (base_NPD, source_NPD) in pairs.items():
        share_PF, size_PF = _changed(coder, base_NPD[::2], source_NPD[::2])
        score_PF += share_PF if name == attribute else -size_PF / (len(pairs) - 1)
    score_Q = score_PF.flatten()
    ranked_Q = score_Q.argsort(descending=True, stable=True)
    ranked_Q = ranked_Q[score_Q[ranked_Q] > 0]

    def first(count: int) -> Tensor:
        chosen_Q = torch.zeros(len(score_Q), dtype=torch.bool)
        chosen_Q[ranked_Q[:count]] = True
        return chosen_Q.view_as(score_PF)

    count = _best(pairs, attribute, len(ranked_Q), lambda k: interchange(coder, first(k)))
    return first(count)


def interchange(coder: Coder, chosen_PF: Tensor) -> Move:
    """Gives the chosen latents the activations that they have in the counterfactual."""

    def move(base_NPD: Tensor, source_NPD: Tensor) -> Tensor:
        moved_NPD = torch.empty_like(base_NPD)
        for position, part, found in _every_change(coder, base_NPD, source_NPD):
            delta_NC = torch.where(chosen_PF[position][found.features], found.deltas, 0.0)
            moved_NPD[part, position] = weighted_rows(found.features, delta_NC, coder.rows_FD)
        return moved_NPD

    return move


def random_latents(coder: Coder, pairs: Pairs, count_P: Tensor, seed: int) -> Tensor:
    """bool ``[P, d_sae]``: at each token so many of those that change between any prompt and its
    counterfactual; all where there are fewer."""
    changing_PF = torch.zeros(len(count_P), len(coder.rows_FD), dtype=torch.bool)
    for base_NPD, source_NPD in pairs.values():
        for position, _, found in _every_change(coder, base_NPD, source_NPD):
            changing_PF[position, found.features[found.deltas != 0]] = True
    generator = torch.Generator().manual_seed(seed % 2**63)
    chosen_PF = torch.zeros_like(changing_PF)
    for position, count in enumerate(count_P.tolist()):
        there = changing_PF[position].nonzero()[:, 0]
        taken = there[torch.randperm(len(there), generator=generator)[:count]]
        chosen_PF[position, taken] = True
    return chosen_PF


def subspace_of(pairs: Pairs, attribute: str) -> Move:
    """Interchanges the principal directions of what differs with ``attribute``: found by one half
    of the pairs, and their number chosen by the other."""
    base_NPD, source_NPD = pairs[attribute]
    difference_NQ = (source_NPD - base_NPD)[::2].flatten(1).double()
    _, _, directions_RQ = torch.linalg.svd(difference_NQ, full_matrices=False)
    directions_RQ = directions_RQ.float()

    def first(count: int) -> Move:
        rows_RQ = directions_RQ[:count]

        def move(base_NPD: Tensor, source_NPD: Tensor) -> Tensor:
            whole_NQ = (source_NPD - base_NPD).flatten(1)
            return (whole_NQ @ rows_RQ.T @ rows_RQ).view_as(base_NPD)

        return move

    return first(_best(pairs, attribute, len(directions_RQ), first))


def _every_change(
    coder: Coder, base_NPD: Tensor, source_NPD: Tensor
) -> Iterator[tuple[int, slice, Changes]]:
    """(token, places, what changes there from prompts to counterfactuals)"""
    for position in range(base_NPD.shape[1]):
        for start in range(0, len(base_NPD), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            base_ND, source_ND = base_NPD[part, position], source_NPD[part, position]
            yield position, part, changes(coder.encode(base_ND), coder.encode(source_ND))


def _changed(coder: Coder, base_NPD: Tensor, source_NPD: Tensor) -> tuple[Tensor, Tensor]:
    """``[P, d_sae]`` each, of the summed squares of all that differs: how much of it a latent's
    change is, and the summed squares of that change itself."""
    shape = base_NPD.shape[1], len(coder.rows_FD)
    share_PF, size_PF = torch.zeros(shape).double(), torch.zeros(shape).double()
    wanted_NPD = source_NPD - base_NPD
    for position, part, found in _every_change(coder, base_NPD, source_NPD):
        rows_NCD = coder.rows_FD[found.features]
        along_NC = torch.einsum("ncd,nd->nc", rows_NCD, wanted_NPD[part, position]).double()
        delta_NC, at = found.deltas.double(), found.features.flatten()
        share_PF[position].index_add_(0, at, (delta_NC * along_NC).flatten())
        size_NC = delta_NC.square() * rows_NCD.double().square().sum(-1)
        size_PF[position].index_add_(0, at, size_NC.flatten())
    whole = max(float(wanted_NPD.double().square().sum()), _NOTHING)
    return share_PF / whole, size_PF / whole


def _best(pairs: Pairs, attribute: str, most: int, of: Callable[[int], Move]) -> int:
    """How many: 1, 2, 4, ... or ``most``, by the other half of the pairs; 0 where none helps.

    Best is the largest product of cause and isolation, as ``shares`` has them of answers, here of
    activations.
    """
    counts = sorted({*(2**power for power in range(most.bit_length())), most} - {0})
    best, chosen = 0.0, 0
    for count in counts:
        move, cause, stays = of(count), 0.0, []
        for name, (base_NPD, source_NPD) in pairs.items():
            first_NPD, other_NPD = base_NPD[1::2], source_NPD[1::2]
            wanted_NQ = (other_NPD - first_NPD).flatten(1).double()
            moved_NQ = move(first_NPD, other_NPD).flatten(1).double()
            size_N = wanted_NQ.norm(dim=1).clamp_min(_NOTHING)
            if name == attribute:
                along_N = (moved_NQ * wanted_NQ).sum(1) / size_N
                cause = float(along_N.sum() / size_N.sum())
            else:
                stays.append(float(1 - moved_NQ.norm(dim=1).sum() / size_N.sum()))
        isolation = sum(stays) / max(len(stays), 1)
        value = min(max(cause, 0.0), 1.0) * max(isolation, 0.0)
        if value > best:
            best, chosen = value, count
    return chosen
