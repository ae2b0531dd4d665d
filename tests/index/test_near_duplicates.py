"""Near-duplicates: what counts as one, and that explained and scored examples never meet."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monosemy.data.splits import TEST, TRAIN, VALIDATION, explanation_split
from monosemy.index.examples import Example
from monosemy.index.near_duplicates import SeenWindows
from monosemy.index.reader import IndexReader
from monosemy.index.sampling import Sampler
from monosemy.specs.parts import IndexingSpec
from tests.support.planted_index import Planted, PlantedStore, plant, random_text

WINDOW = 10
ROW = 40


def near(store: PlantedStore, one: Example, two: Example) -> bool:
    """Jaccard index of three-token shingles, counted anew."""
    sets = []
    for example in (one, two):
        ids = store.tokens[example.start : example.end].tolist()
        sets.append({tuple(ids[i : i + 3]) for i in range(max(len(ids) - 2, 1))})
    return len(sets[0] & sets[1]) >= 0.8 * len(sets[0] | sets[1])


def by_definition(one: np.ndarray, two: np.ndarray) -> bool:
    a, b = ({tuple(ids[i : i + 3]) for i in range(len(ids) - 2)} for ids in map(padded, (one, two)))
    shared, small, large = len(a & b), *sorted((len(a), len(b)))
    held = shared >= 8 and shared >= 0.6 * small and shared >= 0.25 * large
    return held or shared >= 0.8 * len(a | b)


def padded(window: np.ndarray) -> list[int]:
    ids = window.tolist()
    return ids + ids[-1:] * (3 - len(ids))


def alike(one: Any, two: Any) -> bool:
    """Whether either window is refused once the other is seen, and beside it in one batch."""
    tokens = np.concatenate([one, two])
    starts, ends = np.array([0, len(one)]), np.array([len(one), len(tokens)])
    refused = []
    for first, second in (([0], [1]), ([1], [0])):
        seen = SeenWindows(tokens)
        seen.add(starts[first], ends[first])
        refused.append(not seen.batch(starts[second], ends[second]).take(0))
    together = SeenWindows(tokens).batch(starts, ends)
    assert together.take(0)
    refused.append(not together.take(1))
    assert len(set(refused)) == 1
    return refused[0]


def test_jaccard_at_its_border() -> None:
    assert alike([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 7])  # 4 shingles of 5
    assert not alike([1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6])  # 3 of 4
    assert alike([7, 7, 7], [7, 7, 7, 7])
    assert alike([1, 2], [1, 2]) and alike([1], [1])
    assert not alike([1, 2], [1, 3]) and not alike([1], [2])
    assert not alike([1, 2, 3, 4, 5], [5, 4, 3, 2, 1])


def test_shifted_and_clipped_twins_count() -> None:
    text = np.arange(60)
    assert alike(text[:33], text[10:43])  # 21 of 31 in common
    assert alike(text[:33], text[16:33])
    assert not alike(text[:33], text[20:53])  # 11 of 31
    assert not alike(text[:33], text[5:12])  # too short to tell


tokens_and_windows = st.integers(0, 2**32 - 1)


@settings(max_examples=150, deadline=None)
@given(seed=tokens_and_windows, vocabulary=st.sampled_from([1, 2, 3, 50]), old=st.integers(0, 12))
def test_the_table_never_hides_a_near_duplicate(seed: int, vocabulary: int, old: int) -> None:
    """What is taken is what comparing every pair would take, for windows of any overlap."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, vocabulary, 120).astype(np.uint32)
    tokens[60:] = np.where(rng.random(60) < 0.9, tokens[:60], tokens[60:])
    starts = rng.integers(0, 110, 30)
    ends = np.minimum(starts + rng.integers(1, 34, 30), 120)
    windows = [tokens[a:b] for a, b in zip(starts, ends, strict=True)]
    seen = SeenWindows(tokens)
    seen.add(starts[:old], ends[:old])
    kept, taken = list(range(old)), []
    for i in range(old, 30):
        if not any(by_definition(windows[i], windows[j]) for j in kept):
            kept.append(i)
    for chosen in np.array_split(np.arange(old, 30), 2):
        batch = seen.batch(starts[chosen], ends[chosen])
        taken += [int(i) for number, i in enumerate(chosen) if batch.take(number)]
        batch.close()
    assert taken == kept[old:]


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> tuple[Planted, IndexReader]:
    """Every text of the first 80 documents stands in 80 others too, with every 61st token changed
    and cut into rows elsewhere; 80 more stand alone.  Feature 1 fires on token 7, feature 2 on 1
    token in 12."""
    rng = np.random.default_rng(3)
    texts, lengths, documents = [], [], []
    originals = [rng.integers(0, 60, 5 * ROW) for _ in range(80)]
    for number in range(240):
        if number < 80:
            text = originals[number]
        elif number < 160:
            text = originals[number - 80].copy()
            text[rng.integers(0, 61) :: 61] = 61
            text = text[11:]
        else:
            text = rng.integers(0, 60, 5 * ROW)
        texts.append(text)
        cuts = [min(ROW, len(text) - begin) for begin in range(0, len(text), ROW)]
        lengths += cuts
        documents += [number] * len(cuts)
    tokens = np.concatenate(texts)
    dense = np.full((len(tokens), 3), -1.0)
    dense[tokens == 7, 1] = 1.0
    dense[tokens % 12 == 5, 2] = 1.0
    dense *= np.where(dense > 0, rng.gamma(2.0, 2.0, dense.shape) + 0.1, 1.0)
    planted = plant(dense, lengths, documents, tokens, [f" w{i}".encode() for i in range(62)])
    folder = tmp_path_factory.mktemp("twins") / "index"
    return planted, planted.build(folder, IndexingSpec(window=WINDOW))


def test_explained_and_scored_examples_never_meet(twins: tuple[Planted, IndexReader]) -> None:
    """Whatever seeds, numbers and strategies the two were drawn with."""
    planted, reader = twins
    store, sampler = planted.store, Sampler(reader, planted.store)
    for feature in (1, 2):
        shown = [
            example
            for seed, count in ((0, 10), (1, 100), (2, 40))
            for strategy in ("quantiles", "top", "random")
            for example in sampler.examples(feature, TRAIN, count, seed, strategy)
        ]
        tuned = [e for seed in (0, 5) for e in sampler.examples(feature, VALIDATION, 30, seed)]
        for seed in range(4):
            scored = sampler.examples(feature, TEST, 40, seed, n_strata=10)
            negatives = sampler.negatives(feature, TEST, 40, seed, scored)
            assert len(scored) > 15 and len(negatives) == 40
            both = scored + negatives
            assert not any(near(store, one, two) for one, two in combinations(both, 2))
            assert not any(near(store, one, two) for one, two in product(shown + tuned, both))
        assert not any(near(store, one, two) for one, two in product(shown, tuned))


def test_without_care_they_would_have_met(
    twins: tuple[Planted, IndexReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    planted, reader = twins
    sampler = Sampler(reader, planted.store)
    monkeypatch.setattr(sampler, "seen_before", lambda *_: SeenWindows(planted.store.tokens))
    shown = [example for seed in range(3) for example in sampler.examples(1, TRAIN, 100, seed)]
    scored = sampler.examples(1, TEST, 100, 0)
    met = [two for two in scored if any(near(planted.store, one, two) for one in shown)]
    assert len(met) >= 5


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), density=st.sampled_from([0.005, 0.03, 0.3]))
def test_splits_share_no_document(
    seed: int, density: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    planted = random_text(seed=seed, n_features=6, n_documents=40, density=density)
    reader = planted.build(tmp_path_factory.mktemp("random") / "index", IndexingSpec(window=4))
    splits = explanation_split(planted.store.document_hash)
    sampler = Sampler(reader, planted.store)
    for feature in range(6):
        documents: list[set[int]] = []
        for split in (TRAIN, VALIDATION, TEST):
            examples = sampler.examples(feature, split, 12, seed)
            examples += sampler.negatives(feature, split, 12, seed, examples)
            documents.append({example.document for example in examples})
            assert {splits[document] for document in documents[-1]} <= {split}
            for example in examples:
                assert planted.store.row_document[example.row] == example.document
                fires = planted.dense[example.start : example.end, feature] > 0
                assert fires.any() == (example.group != "negative")
        assert not any(one & two for one, two in combinations(documents, 2))
