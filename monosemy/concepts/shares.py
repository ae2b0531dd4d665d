"""Features that are strong in more of a concept's texts than of others, and how many of them tell
best.  Needs torch.

Counted is in how many texts a feature is among the ``top_k`` strongest.  Chosen from are those that
are so in more targets than the labels' chance explains: Fisher's exact test, one-sided, at a false
discovery rate of .05 over all features that are among the strongest of any text (Benjamini and
Hochberg).  In the order of their correlation with the labels (phi), so many are taken as tell texts
best that had no part in the order (cross-validation within the texts that choose).  Unlike the
paper's rule, one retain text in which a feature is strong does not end it, and one target alone
does not choose it.  How strong a feature is does not count: what all texts have may well be a
little stronger in some.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.concepts.readings import Readings
from monosemy.interp.statistics.multiple import FDR, adjusted
from monosemy.interp.statistics.ranks import auroc
from monosemy.saes.base import SAE

FOLDS = 5

Booleans = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def in_more_targets(
    sae: SAE, sets: tuple[Readings, Readings], strongest_N: Sequence[Collection[int]], seed: int
) -> tuple[int, ...]:
    """Highest correlation first; ``strongest_N`` has the strongest features of each text of
    ``sets`` (targets, retain texts), one after the other."""
    membership = _Membership(strongest_N, np.arange(len(strongest_N)) < len(sets[0]))
    candidates = membership.more_often()
    order = [latent for latent in membership.ordered(membership.everything) if latent in candidates]
    if len(order) < 2:
        return tuple(order)
    return tuple(order[: _count(membership, order, _Energies(sae, sets), seed)])


class _Membership:
    """Which features are among the strongest of which texts."""

    def __init__(self, strongest_N: Sequence[Collection[int]], on_N: Booleans) -> None:
        self.on_N = on_N
        self.latents_U = np.array(sorted({latent for each in strongest_N for latent in each}))
        column = {int(latent): place for place, latent in enumerate(self.latents_U)}
        self._columns_N = [
            np.array([column[latent] for latent in each], np.int64) for each in strongest_N
        ]

    @property
    def everything(self) -> Booleans:
        """All texts."""
        return np.ones(len(self.on_N), bool)

    def more_often(self) -> set[int]:
        """Features that are so in more targets than chance explains."""
        from scipy.stats import hypergeom  # takes a second to import

        targets_U, retain_U = self._counts(self.everything)
        both_U = targets_U + retain_U
        p_U = hypergeom.sf(targets_U - 1, len(self.on_N), both_U, int(self.on_N.sum()))
        passed_U = adjusted(p_U.clip(0, 1)) <= FDR if len(p_U) else np.zeros(0, bool)
        return {int(latent) for latent in self.latents_U[passed_U]}

    def ordered(self, texts_N: Booleans) -> list[int]:
        """Highest correlation with the labels of these texts first, then by index."""
        targets_U, retain_U = self._counts(texts_N)
        n, on = int(texts_N.sum()), int((texts_N & self.on_N).sum())
        share_U = (targets_U + retain_U) / n
        spread_U = np.sqrt(share_U * (1 - share_U))
        difference_U = targets_U / on - retain_U / (n - on)
        # What is in all texts, or none, has neither.
        phi_U = np.divide(
            difference_U, spread_U, out=np.zeros(len(difference_U)), where=spread_U > 0
        )
        return [int(each) for each in self.latents_U[np.lexsort((self.latents_U, -phi_U.round(9)))]]

    def _counts(self, texts_N: Booleans) -> tuple[Integers, Integers]:
        """``[U]``: targets, and retain texts, among whose strongest a feature is."""
        counts = []
        for kind in (True, False):
            places = np.flatnonzero(texts_N & (self.on_N == kind))
            columns = [self._columns_N[place] for place in places]
            counts.append(
                np.bincount(
                    np.concatenate(columns or [np.zeros(0, np.int64)]),
                    minlength=len(self.latents_U),
                )
            )
        return counts[0], counts[1]


class _Energies:
    """By how much of an activation some features are, the highest of a text's tokens: what is
    removed, but for the scale."""

    def __init__(self, sae: SAE, sets: Sequence[Readings]) -> None:
        self._sae, self._sets = sae, sets

    def of_prefixes(self, latents: Sequence[int], counts: Sequence[int]) -> list[Floats]:
        """For the first so many of ``latents``: ``[texts]`` of all sets, one after the other."""
        latents_S = torch.tensor(list(latents), device=self._sae.device)
        rows_SD = self._sae.decoder_rows(latents_S).float().cpu()
        products_SS = rows_SD @ rows_SD.T
        column_F = torch.full((self._sae.d_sae,), len(latents))
        column_F[list(latents)] = torch.arange(len(latents))
        dense = [self._dense(texts, column_F, len(latents)) for texts in self._sets]
        folds = []
        for n in counts:
            parts = [
                texts.each_text(((own_TS[:, :n] @ products_SS[:n, :n]) * own_TS[:, :n]).sum(1))
                for texts, own_TS in zip(self._sets, dense, strict=True)
            ]
            folds.append(torch.cat(parts).double().numpy())
        return folds

    @staticmethod
    def _dense(texts: Readings, column_F: Tensor, count: int) -> Tensor:
        """Activations of some features at every token, ``[tokens, count]``."""
        indices_TK, values_TK = texts.codes
        own_TS = torch.zeros(len(values_TK), count + 1)
        own_TS.scatter_add_(1, column_F[indices_TK], values_TK.float())
        return own_TS[:, :count]


def _count(
    membership: _Membership, candidates: Sequence[int], energies: _Energies, seed: int
) -> int:
    """How many features tell texts best that had no part in their order; of equals the fewest."""
    on_N, known = membership.on_N, set(candidates)
    powers = (2**power for power in range(len(known).bit_length()))
    counts = sorted({len(known), *powers})
    areas = np.zeros(len(counts))
    fold_N = _folds(on_N, seed)
    for fold in range(int(fold_N.max()) + 1):
        held_N = fold_N == fold
        order = [latent for latent in membership.ordered(~held_N) if latent in known]
        for place, energy_N in enumerate(energies.of_prefixes(order, counts)):
            areas[place] += auroc(energy_N[held_N & on_N], energy_N[held_N & ~on_N])
    return counts[int(areas.round(9).argmax())]


def _folds(on_N: Booleans, seed: int) -> Integers:
    """A fold for each text, int64 ``[N]``, each with texts of both kinds."""
    fold_N = np.zeros(len(on_N), np.int64)
    folds = min(FOLDS, int(on_N.sum()), int((~on_N).sum()))
    for kind in (True, False):
        places = np.flatnonzero(on_N == kind).tolist()
        random.Random(f"folds {seed} {kind}").shuffle(places)
        fold_N[places] = np.arange(len(places)) % folds
    return fold_N
