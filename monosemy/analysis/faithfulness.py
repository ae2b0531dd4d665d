"""How much of the neighbourhoods in many dimensions two dimensions keep.  numpy and scipy alone.

Sources: J. Venna and S. Kaski, Neighborhood preservation in nonlinear projection methods (ICANN
2001) for trustworthiness and continuity.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from monosemy.interp.statistics.bootstrap import cluster_bootstrap
from monosemy.specs.rest.layouts import Faithfulness, KeptShare

NEIGHBOURS = 15
"""Nearest ones that are looked at; half of the others where those are fewer."""
SAMPLED = 1000
"""Features by which trustworthiness and continuity are estimated."""

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]


def faithfulness(
    unit_ND: Floats, nearest_NK: Ints, layout_N2: Floats, pca_N2: Floats
) -> Faithfulness:
    """Of a layout and of the principal components, with what chance gives.

    ``unit_ND``: rows of length one; ``nearest_NK``: of each the ``NEIGHBOURS`` nearest others by
    cosine (or more), the nearest first.
    """
    n = len(unit_ND)
    k = min(NEIGHBOURS, (n - 1) // 2)
    trusted, continuous, sampled = trust_and_continuity(unit_ND, layout_N2, k)
    return Faithfulness(
        neighbours=k,
        n=n,
        layout=_mean(kept_shares(nearest_NK[:, :k], layout_N2)),
        pca=_mean(kept_shares(nearest_NK[:, :k], pca_N2)),
        chance=k / (n - 1),
        trustworthiness=trusted,
        continuity=continuous,
        sampled=sampled,
    )


def kept_shares(nearest_NK: Ints, places_N2: Floats) -> npt.NDArray[np.float64]:
    """[N]: which share of each row's K nearest is among the K nearest of its place."""
    k = nearest_NK.shape[1]
    near_NK = nearest_places(places_N2, k)
    kept = np.zeros(len(nearest_NK))
    for column in range(k):
        kept += (near_NK == nearest_NK[:, column, None]).any(axis=1)
    return kept / k


def nearest_places(places_N2: Floats, k: int) -> Ints:
    """[N, k]: the nearest other points of each, the nearest first."""
    n = len(places_N2)
    _, near = cKDTree(places_N2).query(places_N2, k + 1)
    own = near == np.arange(n)[:, None]
    own[~own.any(axis=1), k] = True  # behind others in the very same place
    rest: Ints = near[~own].reshape(n, k).astype(np.int64)
    return rest


def principal_plane(unit_ND: Floats) -> npt.NDArray[np.float32]:
    """[N, 2]: the first two principal components; of each the largest loading is positive."""
    centred = unit_ND - unit_ND.mean(axis=0, dtype=np.float64).astype(unit_ND.dtype)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    plane = axes[:, ::-1][:, :2]
    plane = plane * np.sign(plane[np.abs(plane).argmax(axis=0), np.arange(plane.shape[1])])
    places = (centred @ plane.astype(centred.dtype)).astype(np.float32)
    return np.pad(places, ((0, 0), (0, 2 - places.shape[1])))


def trust_and_continuity(unit_ND: Floats, places_N2: Floats, k: int) -> tuple[float, float, int]:
    """(trustworthiness, continuity, features that they are of); k is less than half of N."""
    n = len(unit_ND)
    sample = np.sort(np.random.default_rng(0).permutation(n)[:SAMPLED])
    far = near = 0.0
    block = max(1, 2**22 // n)
    for first in range(0, len(sample), block):
        rows = sample[first : first + block]
        by_cosine = -(unit_ND[rows] @ unit_ND.T)
        by_place = ((places_N2[rows, None, :] - places_N2[None, :, :]) ** 2).sum(axis=2)
        for each in (by_cosine, by_place):
            each[np.arange(len(rows)), rows] = -np.inf  # itself has rank 0
        cosine_rank, place_rank = _ranks(by_cosine), _ranks(by_place)
        far += float(np.maximum(cosine_rank - k, 0)[_among(place_rank, k)].sum())
        near += float(np.maximum(place_rank - k, 0)[_among(cosine_rank, k)].sum())
    scale = 2.0 / (len(sample) * k * (2 * n - 3 * k - 1))
    return 1 - scale * far, 1 - scale * near, len(sample)


def _ranks(values: Floats) -> Ints:
    """[rows, N]: places in the ascending order of each row."""
    order = np.argsort(values, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(values.shape[1])[None, :], axis=1)
    return ranks


def _among(ranks: Ints, k: int) -> npt.NDArray[np.bool_]:
    return (ranks >= 1) & (ranks <= k)


def _mean(shares: npt.NDArray[np.float64]) -> KeptShare:
    mean: Callable[..., float] = np.mean  # type: ignore[assignment]
    mean_share = cluster_bootstrap(mean, [shares], bounds=(0.0, 1.0))
    assert mean_share.value is not None
    return KeptShare(
        value=mean_share.value, low=max(mean_share.low, 0.0), high=min(mean_share.high, 1.0)
    )
