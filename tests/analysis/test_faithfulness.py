"""How much of neighbourhoods is kept: planted planes keep all, chance is chance, brute force."""

from __future__ import annotations

import numpy as np
import pytest

from monosemy.analysis.faithfulness import (
    NEIGHBOURS,
    faithfulness,
    kept_shares,
    nearest_places,
    principal_plane,
    trust_and_continuity,
)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def by_cosine(rows: np.ndarray, k: int) -> np.ndarray:
    """The k nearest others, by a whole matrix and a whole sort."""
    cosines = rows.astype(np.float64) @ rows.astype(np.float64).T
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :k]


def ring(n: int, d: int = 12) -> np.ndarray:
    """Unit rows evenly on a circle, in a plane of ``d`` dimensions; in no order."""
    rng = np.random.default_rng(0)
    angles = rng.permutation(n) * 2 * np.pi / n + rng.uniform(-1, 1, n) / n
    plane, _ = np.linalg.qr(rng.normal(size=(d, 2)))
    return unit(np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane.T)


def test_a_ring_in_a_plane_is_kept_by_its_principal_components() -> None:
    rows = ring(400)
    plane = principal_plane(rows)
    measured = faithfulness(rows, by_cosine(rows, NEIGHBOURS), plane, plane)
    assert measured.pca.value > 0.99 and measured.layout == measured.pca
    assert measured.trustworthiness > 0.999 and measured.continuity > 0.999
    assert (measured.n, measured.neighbours, measured.sampled) == (400, 15, 400)
    assert measured.chance == pytest.approx(15 / 399)


def test_clusters_that_lie_apart_in_a_plane_are_kept() -> None:
    rng = np.random.default_rng(1)
    centres = 4 * np.stack([np.cos(np.arange(5)), np.sin(np.arange(5))], axis=1)
    flat = np.repeat(centres, 40, axis=0) + 0.3 * rng.normal(size=(200, 2))
    rows = np.concatenate([flat, np.full((200, 1), 40.0)], axis=1)  # nearly flat on the sphere
    rows = unit(rows @ np.linalg.qr(rng.normal(size=(9, 3)))[0].T)
    measured = faithfulness(rows, by_cosine(rows, 15), flat, principal_plane(rows))
    assert measured.layout.value > 0.97 and measured.pca.value > 0.97


def test_places_by_chance_keep_what_chance_keeps() -> None:
    rng = np.random.default_rng(2)
    rows = unit(rng.normal(size=(1500, 40)))
    measured = faithfulness(
        rows, by_cosine(rows, 15), rng.normal(size=(1500, 2)), principal_plane(rows)
    )
    assert measured.layout.low <= measured.chance <= measured.layout.high
    assert measured.layout.high - measured.layout.low < 0.005
    assert measured.trustworthiness == pytest.approx(0.5, abs=0.03)
    assert measured.continuity == pytest.approx(0.5, abs=0.03)
    assert measured.sampled == 1000


def test_it_is_what_brute_force_counts() -> None:
    rng = np.random.default_rng(3)
    rows, places = unit(rng.normal(size=(60, 5))), rng.normal(size=(60, 2))
    k = 6
    near = by_cosine(rows, k)
    for i, closest in enumerate(nearest_places(places, k)):
        distances = np.linalg.norm(places - places[i], axis=1)
        others = np.delete(distances, i)
        assert i not in closest and len(set(closest)) == k
        assert np.allclose(np.sort(distances[closest]), np.sort(others)[:k])
    shares = kept_shares(near, places)
    cosines = rows @ rows.T
    far_of = {"trust": 0.0, "continuity": 0.0}
    for i in range(60):
        by_distance = np.argsort(((places - places[i]) ** 2).sum(1), kind="stable")
        by_place = [int(j) for j in by_distance if j != i]
        by_cos = [int(j) for j in np.argsort(-cosines[i], kind="stable") if j != i]
        assert by_cos[:k] == near[i].tolist()
        assert shares[i] == pytest.approx(len(set(by_place[:k]) & set(by_cos[:k])) / k)
        far_of["trust"] += sum(max(by_cos.index(j) + 1 - k, 0) for j in by_place[:k])
        far_of["continuity"] += sum(max(by_place.index(j) + 1 - k, 0) for j in by_cos[:k])
    trusted, continuous, sampled = trust_and_continuity(rows, places, k)
    scale = 2 / (60 * k * (2 * 60 - 3 * k - 1))
    assert sampled == 60
    assert trusted == pytest.approx(1 - scale * far_of["trust"])
    assert continuous == pytest.approx(1 - scale * far_of["continuity"])


def test_points_in_the_same_place_are_others_to_each_other() -> None:
    places = np.random.default_rng(4).normal(size=(30, 2))
    places[5:15] = places[5]
    for i, closest in enumerate(nearest_places(places, 4)):
        assert i not in closest and len(set(closest)) == 4
        if 5 <= i < 15:
            assert set(closest) < set(range(5, 15))


def test_few_rows_are_asked_for_half_of_the_others() -> None:
    rows = ring(11)
    plane = principal_plane(rows)
    measured = faithfulness(rows, by_cosine(rows, 10), plane, plane)
    assert measured.neighbours == 5 and measured.chance == 0.5
    assert 0 <= measured.trustworthiness <= 1


def test_principal_components_of_a_line_and_of_one_dimension() -> None:
    line = np.outer(np.linspace(-1, 1, 20), [3.0, 4.0]).astype(np.float32)
    places = principal_plane(line)
    assert np.allclose(places[:, 0], np.linspace(-5, 5, 20), atol=1e-5)
    assert np.allclose(places[:, 1], 0, atol=1e-5)
    assert principal_plane(np.ones((4, 1), np.float32)).shape == (4, 2)
