from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from monosemy.errors import DataError
from monosemy.interp.select import select_features
from monosemy.specs.parts import FeatureSelection

N_TOKENS = 1_000_000


def index(counts: list[int] | np.ndarray) -> Any:
    counts = np.asarray(counts, dtype=np.int64)
    return SimpleNamespace(counts=counts, density=counts / N_TOKENS)


def test_named_features_keep_their_order() -> None:
    reader = index([5, 0, 7, 9])
    assert select_features(reader, FeatureSelection(indices=[3, 0, 3])) == [3, 0]


def test_named_features_are_not_looked_at() -> None:
    """What does not exist (4) or never fired (1) is told when its turn comes."""
    reader = index([5, 0, 7, 9])
    assert select_features(reader, FeatureSelection(indices=[4, 1, 2])) == [4, 1, 2]


def test_the_sample_keeps_to_its_bounds_and_seed() -> None:
    rng = np.random.default_rng(0)
    counts = np.exp(rng.uniform(0, np.log(N_TOKENS / 2), 2000)).astype(np.int64)
    reader = index(counts)
    spec = FeatureSelection(count=100, min_postings=60, max_density=0.05)
    chosen = select_features(reader, spec)
    assert len(set(chosen)) == 100
    assert chosen == sorted(chosen)
    assert counts[chosen].min() >= 60
    assert counts[chosen].max() <= 50_000
    assert select_features(reader, spec) == chosen
    assert select_features(reader, spec.model_copy(update={"seed": 1})) != chosen


def test_rare_and_frequent_features_are_drawn_alike() -> None:
    """1,000 features of density 1e-4 and 20 each of 1e-3 and 1e-2: the sample takes ten of each."""
    counts = [100] * 1000 + [1000] * 20 + [10_000] * 20
    chosen = select_features(index(counts), FeatureSelection(count=30, seed=3))
    assert sum(feature < 1000 for feature in chosen) == 10
    assert sum(1000 <= feature < 1020 for feature in chosen) == 10
    assert sum(feature >= 1020 for feature in chosen) == 10


def test_small_bands_are_filled_up_from_the_others() -> None:
    counts = [100] * 50 + [10_000] * 2
    chosen = select_features(index(counts), FeatureSelection(count=20))
    assert len(chosen) == 20
    assert {50, 51} <= set(chosen)


def test_all_there_are_when_there_are_few() -> None:
    assert select_features(index([100, 100, 3]), FeatureSelection(count=8)) == [0, 1]
    with pytest.raises(DataError, match=r"Lower features\.min_postings"):
        select_features(index([3, 900_000]), FeatureSelection())
