"""Which latents, or directions, carry an attribute: chosen by activations alone.

Given activations ``[n, d]`` of prompts and of their counterfactuals, of each attribute, at one
token.  An edit moves an activation towards its counterfactual by what is chosen; what else there
is, an SAE's error included, stays.
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
"""What is added to activations ``[n, d]``, given those of the counterfactuals."""

_AT_ONCE = 64


def latents_of(coder: Coder, pairs: Pairs, attribute: str) -> Tensor:
    """Latents that stand for ``attribute``, int64, the best first; may be none.

    By one half of the pairs they are ranked: by how much nearer to its counterfactual each brings
    an activation where the attribute differs, less how far it moves those where another one does,
    both as shares of all that differs.  By the other half is chosen how many are taken.
    """
    sum_F = torch.zeros(len(coder.rows_FD), dtype=torch.float64)
    for name, (base_ND, source_ND) in pairs.items():
        first_ND, other_ND = base_ND[::2], source_ND[::2]
        gain_F, size_F, whole = _gains(coder, first_ND, other_ND)
        if name == attribute:
            sum_F = sum_F + gain_F / whole
        else:
            sum_F = sum_F - size_F / (whole * (len(pairs) - 1))
    ranked_F = sum_F.argsort(descending=True, stable=True)
    ranked_F = ranked_F[sum_F[ranked_F] > 0]

    def first(count: int) -> Move:
        return interchange(coder, ranked_F[:count])

    return ranked_F[: _best(pairs, attribute, len(ranked_F), first)]


def interchange(coder: Coder, latents: Tensor) -> Move:
    """Gives these latents the activations that they have in the counterfactual."""

    def move(base_ND: Tensor, source_ND: Tensor) -> Tensor:
        chosen_F = torch.zeros(len(coder.rows_FD), dtype=torch.bool)
        chosen_F[latents] = True
        moved_ND = torch.empty_like(base_ND)
        for part, found in _changes(coder, base_ND, source_ND):
            delta_NC = torch.where(chosen_F[found.features], found.deltas, 0.0)
            moved_ND[part] = weighted_rows(found.features, delta_NC, coder.rows_FD)
        return moved_ND

    return move


def random_latents(coder: Coder, pairs: Pairs, count: int, seed: int) -> Tensor:
    """``count`` of those that change between any prompt and its counterfactual; all where there are
    fewer."""
    changing_F = torch.zeros(len(coder.rows_FD), dtype=torch.bool)
    for base_ND, source_ND in pairs.values():
        for _, found in _changes(coder, base_ND, source_ND):
            changing_F[found.features[found.deltas != 0]] = True
    there = changing_F.nonzero()[:, 0]
    generator = torch.Generator().manual_seed(seed % 2**63)
    return there[torch.randperm(len(there), generator=generator)[:count]]


def subspace_of(pairs: Pairs, attribute: str) -> Move:
    """Interchanges the principal directions of what differs with ``attribute``: found by one half
    of the pairs, and their number chosen by the other."""
    base_ND, source_ND = pairs[attribute]
    difference_ND = (source_ND - base_ND)[::2].double()
    _, _, directions_RD = torch.linalg.svd(difference_ND, full_matrices=False)
    directions_RD = directions_RD.float()

    def first(count: int) -> Move:
        rows_RD = directions_RD[:count]
        return lambda base_ND, source_ND: (source_ND - base_ND) @ rows_RD.T @ rows_RD

    return first(_best(pairs, attribute, len(directions_RD), first))


def _changes(coder: Coder, base_ND: Tensor, source_ND: Tensor) -> Iterator[tuple[slice, Changes]]:
    """(places, what changes from a prompt to its counterfactual there)"""
    for start in range(0, len(base_ND), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        yield part, changes(coder.encode(base_ND[part]), coder.encode(source_ND[part]))


def _gains(coder: Coder, base_ND: Tensor, source_ND: Tensor) -> tuple[Tensor, Tensor, float]:
    """Of each latent the sum of (what its change lessens of the squared distance, its own squared
    length); and the sum of squared distances."""
    count = len(coder.rows_FD)
    gain_F, size_F = torch.zeros(count).double(), torch.zeros(count).double()
    wanted_ND = source_ND - base_ND
    for part, some in _changes(coder, base_ND, source_ND):
        rows_NCD = coder.rows_FD[some.features]
        along_NC = torch.einsum("ncd,nd->nc", rows_NCD, wanted_ND[part]).double()
        size_NC = (some.deltas.square() * rows_NCD.square().sum(-1)).double()
        gain_NC = 2 * some.deltas.double() * along_NC - size_NC
        gain_F.index_add_(0, some.features.flatten(), gain_NC.flatten())
        size_F.index_add_(0, some.features.flatten(), size_NC.flatten())
    return gain_F, size_F, max(float(wanted_ND.double().square().sum()), 1e-300)


def _best(pairs: Pairs, attribute: str, most: int, of: Callable[[int], Move]) -> int:
    """How many: 1, 2, 4, ... or ``most``, by the other half of the pairs; 0 where none helps.

    Best is the largest product of the share of squared distance that the edit takes away where the
    attribute differs, and 1 less how far it moves what differs otherwise.
    """
    counts = sorted({*(2**power for power in range(most.bit_length())), most} - {0})
    best, chosen = 0.0, 0
    for count in counts:
        move = of(count)
        taken, stays = 0.0, []
        for name, (base_ND, source_ND) in pairs.items():
            first_ND, other_ND = base_ND[1::2], source_ND[1::2]
            wanted_ND, moved_ND = other_ND - first_ND, move(first_ND, other_ND)
            whole = max(float(wanted_ND.double().square().sum()), 1e-300)
            if name == attribute:
                left = float((wanted_ND - moved_ND).double().square().sum())
                taken = max(0.0, 1 - left / whole)
            else:
                moved = float(moved_ND.double().square().sum())
                stays.append(max(0.0, 1 - (moved / whole) ** 0.5))
        value = taken * sum(stays) / max(len(stays), 1)
        if value > best:
            best, chosen = value, count
    return chosen
