"""The pass: postings and statistics equal those of the dense matrix, spilled or not."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from monosemy.errors import Cancelled, DataError
from monosemy.index import encoding, neighbours, token_evidence
from monosemy.index.evidence import HISTOGRAM_BINS, QUANTILES
from monosemy.index.postings import PostingSorter
from monosemy.progress import Reporter
from monosemy.specs.parts import IndexingSpec
from tests.support.planted_index import PlantedSAE, plant, random_text


def test_postings_and_statistics_equal_the_dense_matrix(tmp_path: Path) -> None:
    planted = random_text()
    reader = planted.build(tmp_path / "index")
    assert planted.source.visits.tolist() == [1] * planted.store.n_rows  # one pass
    assert reader.n_features == 40 and reader.n_tokens == planted.store.n_tokens
    for feature in range(reader.n_features):
        column = planted.dense[:, feature]
        expected = np.flatnonzero(column > 0)
        positions, values = reader.postings(feature)
        assert positions.dtype == np.int64 and values.dtype == np.float32
        np.testing.assert_array_equal(positions, expected)
        np.testing.assert_allclose(values, column[expected], rtol=2**-11)
        assert reader.counts[feature] == len(expected)
        assert reader.density[feature] == pytest.approx(len(expected) / len(column))
        if len(expected):
            assert reader.max_activation[feature] == column.max()  # exact, not float16
            assert values.max() == column.max()
            assert reader.mean_activation[feature] == pytest.approx(
                column[expected].mean(), rel=1e-5
            )
        evidence = reader.evidence(feature)
        assert evidence.count == len(expected)
        ordered = np.sort(column[expected])
        ranks = [int(np.ceil(q * len(expected))) - 1 for q in QUANTILES]
        np.testing.assert_allclose(
            evidence.quantiles, ordered[ranks] if len(expected) else [], rtol=1e-3
        )
    assert reader.counts[0] == 0 and reader.max_activation[0] == 0


def test_histogram_has_equal_bins_up_to_the_maximum(tmp_path: Path) -> None:
    dense = np.full((40, 4), -1.0)
    dense[:, 2] = np.arange(1, 41) / 4  # one firing exactly at the top of each bin
    dense[:5, 3] = [10.0, 10.0, 0.01, 4.99, 5.01]
    reader = plant(dense, [40], [0]).build(tmp_path / "index")
    assert reader.histogram(2).tolist() == [1] * HISTOGRAM_BINS
    expected = np.zeros(HISTOGRAM_BINS, int)
    expected[[39, 0, 19, 20]] = [2, 1, 1, 1]
    assert reader.histogram(3).tolist() == expected.tolist()
    assert reader.histogram(0).sum() == 0
    assert reader.evidence(3).histogram == expected.tolist()


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "meta.json"}


def test_spilled_chunks_give_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = random_text(seed=3, n_documents=120)
    whole = planted.build(tmp_path / "whole")
    monkeypatch.setattr(encoding, "PREACTIVATION_BYTES", 1)  # batches of about 256 tokens
    spilled = planted.build(tmp_path / "spilled", chunk_postings=50, memory_bytes=3000)
    assert whole.meta["spilled_chunks"] == 0
    assert spilled.meta["spilled_chunks"] > 10
    assert _files(tmp_path / "whole") == _files(tmp_path / "spilled")
    assert not (tmp_path / "spilled" / "scratch").exists()


def test_blocks_hold_every_feature_once_within_bounds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sorter = PostingSorter(30, 2000, tmp_path, chunk_postings=300, memory_bytes=0)
    rate = rng.random(30) ** 4
    dense = np.where(rng.random((2000, 30)) < rate, rng.random((2000, 30)), 0)
    for begin in range(0, 2000, 37):
        part = dense[begin : begin + 37]
        order = np.argsort(-part, axis=1)
        sorter.add(
            np.arange(begin, begin + len(part)),
            order,
            np.take_along_axis(part, order, 1).astype(np.float32),
        )
    blocks = list(sorter.blocks(block_features=8, block_postings=900))
    assert [b.first for b in blocks] == [0, *[b.last for b in blocks[:-1]]]
    assert blocks[-1].last == 30
    for block in blocks:
        assert block.last - block.first <= 8
        assert block.indptr[-1] <= 900 or block.last == block.first + 1
        for i, feature in enumerate(range(block.first, block.last)):
            part = slice(block.indptr[i], block.indptr[i + 1])
            np.testing.assert_array_equal(block.positions[part], np.flatnonzero(dense[:, feature]))


def test_outliers_are_left_out_and_counted(tmp_path: Path) -> None:
    dense = np.full((60, 6), -1.0)
    dense[:, 1] = 1.0
    dense[[0, 20, 40], 2] = 500.0  # the first token of each row has a huge norm
    reader = plant(dense, [20, 20, 20], [0, 1, 2]).build(tmp_path / "index", max_norm=50.0)
    assert reader.meta["outlier_tokens"] == 3 and reader.meta["max_norm"] == 50.0
    assert reader.n_tokens == 57
    assert reader.counts[2] == 0 and reader.counts[1] == 57
    assert reader.density[1] == 1.0
    assert not set(reader.postings(1)[0]) & {0, 20, 40}
    with pytest.raises(DataError, match="No token is left"):
        plant(dense, [60], [0]).build(tmp_path / "none", max_norm=0.1)


def test_max_tokens_takes_rows_spread_over_the_text(tmp_path: Path) -> None:
    planted = random_text(seed=4, n_documents=60)
    reader = planted.build(tmp_path / "index", IndexingSpec(max_tokens=400))
    lengths = np.diff(planted.store.row_start)
    rows = reader.rows
    assert 300 < lengths[rows].sum() <= 400 and reader.n_tokens == lengths[rows].sum()
    assert rows[-1] > 0.9 * planted.store.n_rows
    row_of = np.searchsorted(planted.store.row_start, reader.postings(1)[0], side="right") - 1
    assert set(row_of) <= set(rows.tolist())


def test_meta_tells_what_was_indexed(tmp_path: Path) -> None:
    planted = random_text()
    spec = IndexingSpec(window=3)
    meta = planted.build(tmp_path / "index", spec).meta
    assert meta["text_id"] == "planted" and meta["spec"] == spec.model_dump()
    assert meta["bytes"] == sum(
        path.stat().st_size for path in (tmp_path / "index").iterdir() if path.name != "meta.json"
    )
    assert meta["versions"]["torch"] == torch.__version__
    again = planted.build(tmp_path / "again", spec).meta
    assert again["sae_fingerprint"] == meta["sae_fingerprint"]
    with torch.no_grad():
        planted.sae.W_dec[0, 0] += 1e-3
    other = planted.build(tmp_path / "other", spec).meta
    assert other["sae_fingerprint"] != meta["sae_fingerprint"]


def test_two_builds_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        random_text().build(tmp_path / name)
    assert _files(tmp_path / "one") == _files(tmp_path / "two")


class _StopAt(Reporter):
    def __init__(self, stage: str) -> None:
        super().__init__(self._reason)
        self.name, self.seen = stage, ""
        self.totals: dict[str, tuple[int | None, int, str]] = {}

    def _reason(self) -> type[Exception] | None:
        return Cancelled if self.seen == self.name else None

    def update(self, progress) -> None:  # type: ignore[no-untyped-def]
        if progress.done:
            self.seen = progress.name
        self.totals[progress.name] = (progress.total, progress.done, progress.unit)


@pytest.mark.parametrize("stage", ["index", "examples"])
def test_a_stopped_build_leaves_nothing_and_keeps_the_older_index(
    tmp_path: Path, stage: str
) -> None:
    planted = random_text()
    folder = tmp_path / "index"
    planted.build(folder)
    before = _files(folder)
    with pytest.raises(Cancelled):
        random_text(seed=9).build(folder, reporter=_StopAt(stage))
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    assert _files(folder) == before


def test_a_rebuild_replaces_the_older_index_and_an_empty_folder(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    folder.mkdir()
    first = random_text().build(folder)
    count = first.n_postings
    second = random_text(seed=9).build(folder)
    assert second.n_postings != count
    assert first.postings(1)[0][0] >= 0  # an open reader keeps its files
    assert json.loads((folder / "meta.json").read_text())["n_postings"] == second.n_postings
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_leftovers_of_killed_builds_are_removed_after_a_day(tmp_path: Path) -> None:
    for name, age in ((".index.old", 2 * 86400), (".index.young", 60), (".other.x", 2 * 86400)):
        (tmp_path / name).mkdir()
        moment = time.time() - age
        os.utime(tmp_path / name, (moment, moment))
    random_text().build(tmp_path / "index")
    assert {path.name for path in tmp_path.iterdir()} == {"index", ".index.young", ".other.x"}


def test_stages_are_named_and_counted(tmp_path: Path) -> None:
    reporter = _StopAt("never")
    planted = random_text()
    planted.build(tmp_path / "index", reporter=reporter)
    n = planted.store.n_tokens
    assert reporter.totals == {"index": (n, n, "tokens"), "examples": (40, 40, "features")}


class _Repeating(PlantedSAE):
    def encode(self, x_ND, budget=None):  # type: ignore[no-untyped-def]
        codes = super().encode(x_ND, budget)
        return codes._replace(indices=torch.zeros_like(codes.indices))


def test_wrong_parts_are_refused(tmp_path: Path) -> None:
    planted = random_text()
    repeating = planted._replace(sae=_Repeating(40, planted.sae.k))
    with pytest.raises(DataError, match="same latent twice"):
        repeating.build(tmp_path / "index")
    with pytest.raises(DataError, match="reads 12 numbers"):
        planted._replace(sae=PlantedSAE(12, 3)).build(tmp_path / "index")
    assert list(tmp_path.iterdir()) == []


def test_texts_beyond_the_tables_give_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = random_text(seed=3)
    planted.build(tmp_path / "tables")
    monkeypatch.setattr(neighbours, "_TABLE", 0)
    monkeypatch.setattr(token_evidence, "_ROW_TABLE", 0)
    planted.build(tmp_path / "searched")
    assert _files(tmp_path / "tables") == _files(tmp_path / "searched")
