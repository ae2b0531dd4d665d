"""Which features to explain: those named, or a sample that spans rare and frequent ones."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from monosemy.errors import DataError
from monosemy.specs.parts import FeatureSelection

STRATA = 10
"""Bands of equal width in log density that the sample draws from in turn."""


class FeatureStatistics(Protocol):
    """What is needed of an ``IndexReader``: one entry per feature."""

    @property
    def counts(self) -> npt.NDArray[np.int64]: ...

    @property
    def density(self) -> npt.NDArray[np.floating]: ...


def select_features(reader: FeatureStatistics, selection: FeatureSelection) -> list[int]:
    """Feature indices: the given ones in their order (repeats dropped), or a sample, ascending.

    Those given are not looked at here: what does not exist, or cannot be explained since it is
    silent, is told of that feature when its turn comes, and holds up no other.

    The sample takes features with at least ``min_postings`` postings and a density of at most
    ``max_density``, in turn from ``STRATA`` bands of log density, so that frequent features do not
    crowd out rare ones; fewer than ``count`` where there are no more.  Raises ``DataError`` where
    there is nothing to sample from.
    """
    if selection.indices is not None:
        return list(dict.fromkeys(selection.indices))
    counts = np.asarray(reader.counts)
    density = np.asarray(reader.density, dtype=np.float64)
    eligible = np.flatnonzero(
        (counts >= selection.min_postings) & (counts > 0) & (density <= selection.max_density)
    )
    if len(eligible) == 0:
        raise DataError(
            f"No feature has at least {selection.min_postings} postings and a density of at most "
            f"{selection.max_density:g}.",
            "Lower features.min_postings, raise features.max_density, or index more text.",
        )
    return sorted(_spread(eligible, np.log(density[eligible]), selection.count, selection.seed))


def _spread(
    eligible: npt.NDArray[np.int64], log_density: npt.NDArray[np.float64], count: int, seed: int
) -> list[int]:
    rng = np.random.default_rng(seed)
    low, high = float(log_density.min()), float(log_density.max())
    width = (high - low) / STRATA or 1.0
    band = np.minimum(((log_density - low) / width).astype(np.int64), STRATA - 1)
    piles = [rng.permutation(eligible[band == number]).tolist() for number in range(STRATA)]
    piles = [piles[number] for number in rng.permutation(STRATA)]
    chosen: list[int] = []
    while len(chosen) < count and any(piles):
        chosen += [pile.pop() for pile in piles if pile]
    return chosen[:count]
