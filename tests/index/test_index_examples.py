"""Which examples stand for a feature: known answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monosemy.index.examples import (
    Example,
    FeaturePostings,
    Firings,
    draw,
    is_window_peak,
    rank,
    select_examples,
    strata,
)
from monosemy.specs.parts import IndexingSpec
from tests.support.planted_index import Planted, plant, random_text

SPEC = IndexingSpec(top_examples=6, quantile_examples=3, quantiles=4, window=4)


def _all_examples(tmp_path: Path, planted: Planted) -> list[list[Example]]:
    reader = planted.build(tmp_path / "index", SPEC)
    return [reader.examples(feature) for feature in range(reader.n_features)]


def test_top_examples_are_the_strongest_of_their_documents(tmp_path: Path) -> None:
    planted = random_text()
    documents = planted.store.row_document[
        np.repeat(np.arange(planted.store.n_rows), np.diff(planted.store.row_start))
    ]
    for feature, examples in enumerate(_all_examples(tmp_path, planted)):
        column = planted.dense[:, feature]
        best = {d: column[documents == d].max() for d in set(documents[column > 0].tolist())}
        expected = sorted(best.values(), reverse=True)[:6]
        top = [e for e in examples if e.group == "top"]
        np.testing.assert_allclose([e.activation for e in top], expected, rtol=1e-4)
        np.testing.assert_allclose([column[e.position] for e in top], expected, rtol=1e-6)
        assert len({e.document for e in top}) == len(top)


def test_quantile_examples_lie_in_strata_of_equal_count(tmp_path: Path) -> None:
    planted = random_text(n_documents=120)
    everything = _all_examples(tmp_path, planted)
    n_examples = 0
    for feature, examples in enumerate(everything):
        column = planted.dense[:, feature]
        positive = np.sort(column[column > 0])
        n = len(positive)
        for e in examples:
            if e.group == "top":
                continue
            low, high = positive[n * e.group // 4], positive[n * (e.group + 1) // 4 - 1]
            assert low <= column[e.position] <= high
            n_examples += 1
        rows = [e.row for e in examples]
        assert len(set(rows)) == len(rows)
        if n > 100:
            assert [e.group for e in examples if e.group != "top"] == [0] * 3 + [1] * 3 + [
                2
            ] * 3 + [3] * 3
    assert n_examples > 300
    assert everything[0] == []


def test_windows_are_clipped_to_the_row_and_hold_exactly_its_firings(tmp_path: Path) -> None:
    planted = random_text()
    starts = planted.store.row_start
    for feature, examples in enumerate(_all_examples(tmp_path, planted)):
        for e in examples:
            assert e.start == max(starts[e.row], e.position - 4)
            assert e.end == min(starts[e.row + 1], e.position + 5)
            assert planted.store.row_document[e.row] == e.document
            window = planted.dense[e.start : e.end, feature]
            assert list(e.offsets) == np.flatnonzero(window > 0).tolist()
            np.testing.assert_allclose(
                e.values, window[window > 0], atol=planted.dense[:, feature].max() / 60000
            )


def _postings(values: list[float], row_length: int = 10) -> tuple[FeaturePostings, np.ndarray]:
    """A firing on every token; a document per row."""
    count = len(values)
    rows = np.arange(count) // row_length
    row_start = np.arange(0, count + row_length, row_length)
    arrays = (np.arange(count), np.array(values, np.float32), rows, rows)
    return FeaturePostings(*arrays), row_start


def test_a_drawn_token_is_the_peak_of_its_window_where_there_is_one() -> None:
    # In each row of ten one token fires at 2, the others at 1: twenty rows.
    values = [2.0 if i % 10 == i // 10 % 10 else 1.0 for i in range(200)]
    postings, row_start = _postings(values)
    examples = select_examples(
        postings, row_start, top=1, quantiles=1, per_quantile=15, window=9, seed=0
    )
    assert [e.activation for e in examples] == [2.0] * 16


def test_the_draw_depends_on_the_seed_alone() -> None:
    postings, row_start = _postings(np.random.default_rng(0).random(400).tolist())
    options = {"top": 3, "quantiles": 4, "per_quantile": 3, "window": 3}
    one, two, other = (
        select_examples(postings, row_start, seed=seed, **options) for seed in (5, 5, 6)
    )
    assert one == two
    assert one[:3] == other[:3] and one[3:] != other[3:]


def test_ties_rank_the_earlier_token_higher_and_strata_differ_by_one_at_most() -> None:
    postings, _ = _postings([1.0, 3.0, 3.0, 2.0])
    assert rank(postings).tolist() == [0, 3, 2, 1]
    lengths = [len(s) for s in strata(np.arange(11), 4)]
    assert sum(lengths) == 11 and max(lengths) - min(lengths) <= 1
    assert [len(s) for s in strata(np.arange(2), 4)].count(0) == 2


@st.composite
def some_firings(draw_from: st.DrawFn) -> tuple[FeaturePostings, FeaturePostings, np.ndarray]:
    """(all firings, every second or so of them, row_start): few values, so that many are equal."""
    rng = np.random.default_rng(draw_from(st.integers(0, 2**32 - 1)))
    row_start = np.concatenate([[0], np.cumsum(rng.integers(1, 12, 12))]).astype(np.int64)
    positions = np.flatnonzero(
        rng.random(row_start[-1]) < draw_from(st.sampled_from([0.1, 0.7, 1]))
    )
    rows = np.searchsorted(row_start, positions, side="right") - 1
    values = rng.integers(1, 5, len(positions)).astype(np.float32)
    whole = FeaturePostings(positions, values, rows, rows // 3)
    kept = np.flatnonzero(rng.random(len(positions)) < 0.6)
    every = Firings(positions.astype(np.uint32), values)
    part = FeaturePostings(positions, values, rows, rows // 3, every, np.arange(len(positions)))
    return whole, part.where(np.isin(np.arange(len(positions)), kept)), row_start


@given(made=some_firings(), window=st.integers(1, 6))
def test_peaks_are_the_strongest_of_all_firings_in_their_windows(made: Any, window: int) -> None:
    whole, part, row_start = made
    for postings in (whole, part):
        for i, is_peak in enumerate(
            is_window_peak(postings, row_start, np.arange(len(postings)), window)
        ):
            same_row = whole.rows == postings.rows[i]
            near = np.abs(whole.positions - postings.positions[i]) <= window
            assert is_peak == (postings.values[i] >= whole.values[same_row & near].max())


@given(made=some_firings(), count=st.integers(1, 8), seed=st.integers(0, 99))
def test_layers_are_drawn_as_if_each_were_alone(made: Any, count: int, seed: int) -> None:
    whole, _, row_start = made
    layers = strata(rank(whole), 3)
    used = np.unique(whole.rows)[:2]

    def peaks(which: np.ndarray) -> np.ndarray:
        return is_window_peak(whole, row_start, which, 3)

    rng, same = np.random.default_rng(seed), np.random.default_rng(seed)
    together = draw(whole, layers, count, peaks, rng, used, per_document=2)
    for layer, drawn in zip(layers, together, strict=True):
        (alone,) = draw(whole, [layer], count, peaks, same, used, per_document=2)
        assert drawn.tolist() == alone.tolist()
        rows, documents = whole.rows[drawn].tolist(), whole.documents[drawn].tolist()
        assert len(set(rows)) == len(rows) and not set(rows) & set(used.tolist())
        assert all(documents.count(each) <= 2 for each in documents)
        marks = peaks(drawn).tolist()
        assert marks == sorted(marks, reverse=True), "peaks come first"
        free = {int(r) for r in whole.rows[layer]} - set(used.tolist())
        most = sum(min(2, len({r for r in free if r // 3 == d})) for d in {r // 3 for r in free})
        assert len(drawn) <= min(count, most) and (len(drawn) > 0 or not free)


def test_fewer_firings_than_asked_for_give_each_row_once(tmp_path: Path) -> None:
    dense = np.full((30, 3), -1.0)
    dense[[2, 3, 12, 25], 1] = [5, 4, 3, 2]
    examples = plant(dense, [10, 10, 10], [0, 0, 1]).build(tmp_path / "i", SPEC).examples(1)
    assert [(e.group, e.position) for e in examples] == [("top", 2), ("top", 25), (1, 12)]
