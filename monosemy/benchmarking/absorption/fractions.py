"""How much of a direction is written by latents other than those that stand for it.

Of words that a probe gets right: ``p`` its unit direction, ``a = x . p``, and of each active latent
``c = z d . p`` with ``d`` its decoder row, of whatever length.  Arrays ``[n, k]`` are over active
latents; padding has ``c = 0``.  Formulas: SAEBench 0.6.0 and 0.3.2, whose fractions differ by an
order of magnitude under one name (arXiv 2409.14507, 2503.09532).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Projected:
    """What latents add along a probe's direction at n words."""

    added_NK: Floats
    """``c``"""
    cosine_NK: Floats
    """Of the latent's decoder row with the direction."""
    main_NK: Bools
    """Whether the latent is one that stands for the direction."""
    whole_N: Floats
    """``a``"""

    @property
    def main_N(self) -> Floats:
        """What the main latents add."""
        return np.where(self.main_NK, self.added_NK, 0.0).sum(1)


def full_absorption(of: Projected, silent_N: Bools, cosine: float, share: float) -> Bools:
    """``[n]``: where no main latent fires (``silent_N``) and the latent that adds most points along
    the direction (``cosine`` at least) and adds ``share`` of ``a`` or more."""
    best_N = of.added_NK.argmax(1)[:, None]
    added_N = np.take_along_axis(of.added_NK, best_N, 1)[:, 0]
    along_N = np.take_along_axis(of.cosine_NK, best_N, 1)[:, 0]
    enough_N = (of.whole_N > 0) & (added_N >= share * of.whole_N) & (added_N > 0)
    return np.asarray(silent_N & enough_N & (along_N >= cosine))


def fraction_0_6_0(of: Projected, latents: int, cosine: float, share: float) -> Floats:
    """``[n]``: of what main latents and the ``latents`` best others add, the part of the others;
    0 unless these add ``share`` of ``a``, and where the main ones add all of it."""
    others_NK = ~of.main_NK & (of.cosine_NK >= cosine) & (of.added_NK > 0)
    best_NK = -np.sort(-np.where(others_NK, of.added_NK, 0.0), axis=1)[:, :latents]
    added_N, main_N, whole_N = best_NK.sum(1), of.main_N, of.whole_N
    taken_N = np.minimum(added_N, whole_N - main_N)
    with np.errstate(divide="ignore", invalid="ignore"):
        partly_N = taken_N / (taken_N + main_N)
    none_N = (main_N >= whole_N) | (added_N < share * whole_N) | (added_N <= 0)
    return np.where(none_N, 0.0, np.where(main_N <= 0, 1.0, partly_N))


def fraction_0_3_2(of: Projected) -> Floats:
    """``[n]``: the part of all that latents add which main ones do not add; 0 where the main ones
    add all of ``a``, and where latents add nothing."""
    all_N, main_N = of.added_NK.sum(1), of.main_N
    with np.errstate(divide="ignore", invalid="ignore"):
        rest_N = np.clip(1 - main_N / all_N, 0.0, 1.0)
    return np.where((main_N >= of.whole_N) | (all_N <= 0), 0.0, rest_N)
