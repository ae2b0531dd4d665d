"""Duplicate labels against planted clusters, chains among them."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest

from monosemy.errors import DataError
from monosemy.interp import nearest
from monosemy.interp.duplicate_labels import duplicate_labels, normalised
from monosemy.interp.nearest import nearest_rows, pair_cosines, unit_rows


def at_angles(*degrees: float) -> np.ndarray[Any, Any]:
    """Unit vectors in the plane: cosines are those of differences of angle."""
    turned = np.radians(degrees)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("Names of cities.", "names  of CITIES", True),
        ("the word “the”", 'The word "the"', True),
        ("ﬁnance", "finance", True),
        ("Straße", "STRASSE", True),
        ("names of cities", "names of towns", False),
        ("!?", "?!", False),
        ("!?", " !? ", True),
        ("The token '('.", "The token ')'.", False),
        ("code in C++", "code in C#", False),
        ("sentences that end with .", "sentences that end with", False),
        ("sentences that end with '.'", 'Sentences that end with "."', True),
        ("naïve", "naive", False),
    ],
)
def test_what_is_equal_when_normalised(first: str, second: str, same: bool) -> None:
    assert (normalised(first) == normalised(second)) is same


def test_exact_duplicates_need_no_embedding() -> None:
    texts = ["Cities.", "rivers", "cities", "CITIES.", "Rivers", "trees"]
    labels = duplicate_labels([9, 4, 7, 2, 1, 0], texts)
    assert [cluster.features for cluster in labels.clusters] == [(2, 7, 9), (1, 4)]
    assert all(c.exact and c.lowest_cosine is None for c in labels.clusters)
    assert labels.clusters[0].texts == ("Cities.",)
    assert (labels.n_features, labels.n_distinct, labels.n_shared) == (6, 3, 5)
    assert labels.as_dict()["shared"] == pytest.approx(5 / 6)


def test_a_chain_does_not_become_one_cluster() -> None:
    """Nine texts, each 9 or 11 degrees from the next: 15 degrees link all of them singly."""
    vectors = at_angles(0, 9, 20, 29, 40, 49, 60, 69, 80)
    near = float(np.cos(np.radians(15)))
    labels = duplicate_labels(range(9), [f"text {i}" for i in range(9)], vectors, near)
    assert all(len(cluster.features) == 2 for cluster in labels.clusters)
    assert len(labels.clusters) == 4
    for cluster in labels.clusters:
        first, second = cluster.features
        assert second == first + 1
        assert cluster.lowest_cosine == pytest.approx(np.cos(np.radians(9)), abs=1e-6)
        assert not cluster.exact and len(cluster.texts) == 2


def test_planted_clusters_come_back() -> None:
    """30 clusters of 2 to 9 texts around random centres in 64 dimensions, and 100 texts alone."""
    rng = np.random.default_rng(0)
    truth: list[list[int]] = []
    rows = []
    for number in range(130):
        centre = rng.standard_normal(64)
        centre /= np.linalg.norm(centre)
        size = 2 + number % 8 if number < 30 else 1
        truth.append(list(range(len(rows), len(rows) + size)))
        rows += [centre + 0.02 * rng.standard_normal(64) for _ in range(size)]
    vectors = np.array(rows)
    order = rng.permutation(len(rows))
    place = {int(old): new for new, old in enumerate(order)}
    labels = duplicate_labels(
        range(len(rows)), [f"number {i}" for i in range(len(rows))], vectors[order], 0.9
    )
    planted = {tuple(sorted(place[i] for i in each)) for each in truth if len(each) > 1}
    assert {cluster.features for cluster in labels.clusters} == planted
    unit = unit_rows(vectors[order])
    for cluster in labels.clusters:
        between = unit[list(cluster.features)] @ unit[list(cluster.features)].T
        assert cluster.lowest_cosine == pytest.approx(between.min(), abs=1e-5)


def test_every_pair_of_a_cluster_is_near_whatever_the_data(monkeypatch: Any) -> None:
    monkeypatch.setattr(nearest, "ROWS", 7)
    monkeypatch.setattr(nearest, "COLUMNS", 11)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        vectors = unit_rows(rng.standard_normal((120, 3)))
        labels = duplicate_labels(range(120), [f"t{i}" for i in range(120)], vectors, 0.95)
        assert labels.clusters
        listed = [feature for cluster in labels.clusters for feature in cluster.features]
        assert len(set(listed)) == len(listed)
        for cluster in labels.clusters:
            rows = vectors[list(cluster.features)]
            assert (rows @ rows.T).min() >= 0.95 - 1e-5
        # No two clusters (or texts alone) could still be joined.
        parts = [list(c.features) for c in labels.clusters]
        parts += [[i] for i in range(120) if i not in set(listed)]
        for i, first in enumerate(parts):
            for second in parts[:i]:
                assert (vectors[first] @ vectors[second].T).min() < 0.95 + 1e-5


def test_more_equal_texts_than_candidates_are_one_cluster() -> None:
    vectors = np.repeat(at_angles(0, 90), [100, 50], axis=0)
    labels = duplicate_labels(range(150), [f"text {i}" for i in range(150)], vectors)
    assert [len(cluster.features) for cluster in labels.clusters] == [100, 50]
    assert labels.as_dict(most=1)["n_clusters"] == 2
    assert len(labels.as_dict(most=1)["clusters"]) == 1


def test_decoders_tell_duplicates_from_coarse_labels() -> None:
    decoder = np.zeros((8, 2))
    decoder[[1, 3]] = at_angles(0, 10) * 5.0  # of any length
    decoder[[2, 4, 5]] = at_angles(0, 60, 90)
    decoder[[0, 6, 7]] = 1.0
    texts = ["cities", "rivers", "cities", "rivers", "rivers", "trees"]
    labels = duplicate_labels([1, 2, 3, 4, 5, 6], texts, decoder_FD=decoder)
    rivers, cities = labels.clusters
    assert cities.features == (1, 3) and cities.decoders_agree is True
    assert cities.decoders is not None
    assert cities.decoders["lowest"] == pytest.approx(np.cos(np.radians(10)))
    assert rivers.features == (2, 4, 5) and rivers.decoders_agree is False
    assert rivers.decoders is not None and rivers.decoders["pairs"] == 3
    known = [np.cos(np.radians(degrees)) for degrees in (60, 90, 30)]
    assert rivers.decoders["mean"] == pytest.approx(np.mean(known), abs=1e-6)
    assert rivers.decoders["share"] == pytest.approx(1 / 3)
    summary = json.loads(json.dumps(labels.as_dict()))
    assert (summary["decoders_agree"], summary["decoders_known"]) == (1, 2)


def test_what_cannot_be_clustered_is_said() -> None:
    with pytest.raises(DataError, match="different features"):
        duplicate_labels([1, 1], ["a", "b"])
    with pytest.raises(DataError, match="3 vectors for 2"):
        duplicate_labels([1, 2], ["a", "b"], at_angles(0, 1, 2))
    with pytest.raises(DataError, match="zero or not finite"):
        duplicate_labels([1, 2], ["a", "b"], np.zeros((2, 3)))
    with pytest.raises(DataError, match="decoder has 2 rows"):
        duplicate_labels([1, 2], ["a", "a"], decoder_FD=np.ones((2, 3)))
    assert duplicate_labels([], []).as_dict()["shared"] is None


# -------------------------------------------------------------------- nearest rows
@pytest.mark.parametrize("later_only", [False, True])
def test_nearest_rows_are_those_of_the_whole_matrix(monkeypatch: Any, later_only: bool) -> None:
    monkeypatch.setattr(nearest, "ROWS", 8)
    monkeypatch.setattr(nearest, "COLUMNS", 13)
    unit = unit_rows(np.random.default_rng(3).standard_normal((50, 6)))
    whole = (unit @ unit.T).astype(np.float64)
    barred = np.tril(np.ones((50, 50), bool)) if later_only else np.eye(50, dtype=bool)
    whole[barred | (whole < 0.1)] = -np.inf
    rows, cosines = nearest_rows(unit, 5, 0.1, later_only)
    order = np.argsort(-whole, axis=1, kind="stable")[:, :5]
    values = np.take_along_axis(whole, order, axis=1)
    np.testing.assert_allclose(cosines, values, atol=1e-6)
    np.testing.assert_array_equal(rows, np.where(np.isfinite(values), order, -1))


def test_equal_rows_come_in_their_order(monkeypatch: Any) -> None:
    monkeypatch.setattr(nearest, "COLUMNS", 4)
    unit = np.ones((10, 1), np.float32)
    rows, _ = nearest_rows(unit, 3)
    assert rows[0].tolist() == [1, 2, 3] and rows[9].tolist() == [0, 1, 2]


def test_pairs_of_a_large_set_are_counted_in_tiles(monkeypatch: Any) -> None:
    monkeypatch.setattr(nearest, "ROWS", 8)
    monkeypatch.setattr(nearest, "COLUMNS", 13)
    unit = unit_rows(np.random.default_rng(4).standard_normal((60, 4)))
    known = (unit @ unit.T)[np.triu_indices(60, 1)]
    pairs = pair_cosines(unit, 0.5)
    assert pairs["pairs"] == len(known) == 1770
    assert pairs["mean"] == pytest.approx(known.mean(), abs=1e-6)
    assert pairs["lowest"] == pytest.approx(known.min(), abs=1e-6)
    assert pairs["share"] == pytest.approx((known >= 0.5).mean())
    assert pair_cosines(unit[:1])["mean"] is None


def test_memory_does_not_grow_with_the_square() -> None:
    n = 12_000  # all cosines at once would take 576 MB
    unit = unit_rows(np.random.default_rng(5).standard_normal((n, 8)))
    tracemalloc.start()
    nearest_rows(unit, 8, 0.9, later_only=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6
