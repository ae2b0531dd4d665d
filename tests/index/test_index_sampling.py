"""Samples of a split: disjoint by document, spread over quantiles, negatives that never fire."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from monosemy.data.splits import explanation_split
from monosemy.errors import DataError
from monosemy.index.feature_text import FeatureText
from monosemy.index.reader import IndexReader
from monosemy.index.sampling import Sampler
from monosemy.specs.parts import IndexingSpec
from tests.support.planted_index import Planted, plant, random_text

FEATURES = range(2, 12)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Planted, IndexReader]:
    planted = random_text(seed=5, n_documents=300)
    folder = tmp_path_factory.mktemp("sampling") / "index"
    return planted, planted.build(folder, IndexingSpec(window=5))


def _splits(planted: Planted) -> np.ndarray:
    return explanation_split(planted.store.document_hash)


def test_positives_come_from_their_split_and_fire(built: tuple[Planted, IndexReader]) -> None:
    planted, reader = built
    splits = _splits(planted)
    for feature in FEATURES:
        column = planted.dense[:, feature]
        documents = {}
        for split in (0, 1, 2):
            examples = Sampler(reader, planted.store).examples(feature, split, 15, seed=0)
            assert len(examples) == 15
            assert all(splits[e.document] == split for e in examples)
            assert len({e.row for e in examples}) == 15
            assert max(Counter(e.document for e in examples).values()) <= 3
            for e in examples:
                assert planted.store.row_document[e.row] == e.document
                window = column[e.start : e.end]
                assert list(e.offsets) == np.flatnonzero(window > 0).tolist()
                assert e.activation == pytest.approx(column[e.position], rel=1e-3)
            documents[split] = {e.document for e in examples}
        assert not documents[0] & documents[2] and not documents[0] & documents[1]


def test_positives_are_spread_over_the_quantiles_of_their_split(
    built: tuple[Planted, IndexReader],
) -> None:
    planted, reader = built
    for feature in FEATURES:
        postings = FeatureText(reader, planted.store, feature).of_split(2).postings
        ordered = np.sort(postings.values)
        n = len(ordered)
        examples = Sampler(reader, planted.store).examples(feature, 2, 12, seed=1)
        assert Counter(e.group for e in examples) == {0: 2, 1: 2, 2: 2, 3: 3, 4: 3}
        assert [e.group for e in examples] == sorted(e.group for e in examples)
        for e in examples:
            low, high = ordered[n * e.group // 5], ordered[n * (e.group + 1) // 5 - 1]
            assert low <= e.activation <= high


def test_other_strategies(built: tuple[Planted, IndexReader]) -> None:
    planted, reader = built
    postings = FeatureText(reader, planted.store, 3).of_split(0).postings
    top = Sampler(reader, planted.store).examples(3, 0, 5, seed=0, strategy="top")
    assert top[0].activation == postings.values.max()
    assert [e.activation for e in top] == sorted((e.activation for e in top), reverse=True)
    assert len({e.document for e in top}) == 5
    loose = Sampler(reader, planted.store).examples(3, 0, 20, seed=0, strategy="random")
    assert {e.group for e in loose} == {0} and len(loose) == 20
    with pytest.raises(DataError, match="no way to sample"):
        Sampler(reader, planted.store).examples(3, 0, 5, 0, strategy="best")  # type: ignore[arg-type]


def test_negatives_never_fire_and_have_the_shapes_of_the_positives(
    built: tuple[Planted, IndexReader],
) -> None:
    planted, reader = built
    splits = _splits(planted)
    for feature in FEATURES:
        positives = Sampler(reader, planted.store).examples(feature, 2, 20, seed=0)
        negatives = Sampler(reader, planted.store).negatives(feature, 2, 20, seed=0, like=positives)
        assert len(negatives) == 20
        shapes = [
            Counter((e.position - e.start, e.end - e.position) for e in group)
            for group in (positives, negatives)
        ]
        assert shapes[0] == shapes[1]
        for e in negatives:
            assert (planted.dense[e.start : e.end, feature] <= 0).all()
            assert splits[e.document] == 2 and planted.store.row_document[e.row] == e.document
            starts = planted.store.row_start
            assert starts[e.row] <= e.start and e.end <= starts[e.row + 1]
            assert e.group == "negative" and e.offsets == () and e.activation == 0.0
        rows = {e.row for e in negatives}
        assert len(rows) == 20 and not rows & {e.row for e in positives}
        assert max(Counter(e.document for e in negatives).values()) <= 3


def test_samples_depend_on_feature_split_and_seed_alone(
    built: tuple[Planted, IndexReader],
) -> None:
    planted, reader = built
    for sample in (Sampler.examples, Sampler.negatives):
        one, two, other = (
            sample(Sampler(reader, planted.store), 4, 0, 10, seed=seed) for seed in (1, 1, 2)
        )
        assert one == two and one != other


def test_negatives_alone_have_windows_around_random_tokens(
    built: tuple[Planted, IndexReader],
) -> None:
    planted, reader = built
    negatives = Sampler(reader, planted.store).negatives(0, 0, 60, seed=0)
    assert len(negatives) == 60
    assert {e.end - e.start for e in negatives} > {11}
    assert all(e.end - e.start <= 11 for e in negatives)


def test_a_feature_that_fires_nearly_everywhere_has_few_negatives(tmp_path: Path) -> None:
    dense = np.full((4000, 3), 1.0)
    dense[::50, 1] = -1.0  # silent single tokens: no silent window of five
    dense[:, 2] = -1.0
    planted = plant(dense, [20] * 200, [r // 4 for r in range(200)])
    reader = planted.build(tmp_path / "index", IndexingSpec(window=2))
    like = Sampler(reader, planted.store).examples(1, 0, 5, seed=0)
    assert Sampler(reader, planted.store).negatives(1, 0, 5, seed=0, like=like) == []
    assert Sampler(reader, planted.store).examples(2, 0, 5, seed=0) == []
    assert len(Sampler(reader, planted.store).negatives(2, 0, 5, seed=0)) == 5


def test_windows_that_read_the_same_are_shown_once(tmp_path: Path) -> None:
    dense = np.full((400, 2), -1.0)
    dense[5::10, 1] = np.linspace(1, 2, 40)
    tokens = np.tile(np.arange(10), 40)  # every row reads the same
    planted = plant(dense, [10] * 40, list(range(40)), tokens)
    reader = planted.build(tmp_path / "index")
    for strategy in ("quantiles", "top", "random"):
        assert len(Sampler(reader, planted.store).examples(1, 0, 8, 0, strategy)) == 1


def test_rows_that_were_not_indexed_are_never_sampled(tmp_path: Path) -> None:
    planted = random_text(seed=6, n_documents=200)
    reader = planted.build(tmp_path / "index", IndexingSpec(max_tokens=1500))
    indexed = set(reader.rows.tolist())
    assert len(indexed) < planted.store.n_rows
    for feature in FEATURES:
        for sample in (Sampler.examples, Sampler.negatives):
            examples = sample(Sampler(reader, planted.store), feature, 0, 10, seed=0)
            assert examples and {e.row for e in examples} <= indexed


def test_another_text_and_an_unknown_split_are_refused(
    built: tuple[Planted, IndexReader],
) -> None:
    planted, reader = built
    with pytest.raises(DataError, match="explanation split 3"):
        Sampler(reader, planted.store).examples(3, 3, 5, seed=0)
    other = random_text(seed=7).store
    other.text_id = "other"
    with pytest.raises(DataError, match="text planted, not other"):
        Sampler(reader, other).negatives(3, 0, 5, seed=0)
