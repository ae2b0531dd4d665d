"""The reader needs no torch, and says what is wrong with a damaged folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from monosemy.errors import DataError
from monosemy.index.evidence import evidence_label
from monosemy.index.example_bytes import examples_from_bytes
from monosemy.index.reader import IndexReader
from monosemy.index.records import iterate_feature_rows
from tests.support.planted_index import plant, random_text

WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers", "safetensors", "sae_lens"):
    sys.modules[name] = None
import monosemy.index.examples, monosemy.index.sampling, monosemy.index.evidence
from monosemy.index.reader import IndexReader
from monosemy.index.records import iterate_feature_rows
reader = IndexReader(sys.argv[1])
rows = list(iterate_feature_rows(reader))
print(len(rows), sum(len(reader.postings(f)[0]) for f in range(reader.n_features)))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reader") / "index"
    random_text().build(path)
    return path


def _copy(folder: Path, to: Path) -> Path:
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def test_reading_needs_no_torch(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["40", str(IndexReader(folder).n_postings)]


def test_missing_and_truncated_files_are_named(folder: Path, tmp_path: Path) -> None:
    for number, name in enumerate(sorted(path.name for path in folder.iterdir())):
        copy = _copy(folder, tmp_path / f"missing{number}")
        (copy / name).unlink()
        with pytest.raises(DataError, match="holds no index" if name == "meta.json" else name):
            IndexReader(copy)
        copy = _copy(folder, tmp_path / f"short{number}")
        (copy / name).write_bytes((copy / name).read_bytes()[:-3])
        with pytest.raises(DataError, match=name):
            IndexReader(copy)
    with pytest.raises(DataError, match="holds no index"):
        IndexReader(tmp_path / "nowhere")


def test_contents_that_contradict_themselves_are_noticed(folder: Path, tmp_path: Path) -> None:
    copy = _copy(folder, tmp_path / "order")
    positions = np.load(copy / "positions.npy")
    indptr = np.load(copy / "indptr.npy")
    positions[indptr[1] : indptr[2]] = positions[indptr[1] : indptr[2]][::-1]
    np.save(copy / "positions.npy", positions)
    with pytest.raises(DataError, match="feature 1 are damaged"):
        IndexReader(copy).postings(1)
    copy = _copy(folder, tmp_path / "indptr")
    np.save(copy / "indptr.npy", indptr[::-1].copy())
    with pytest.raises(DataError, match="indptr"):
        IndexReader(copy)
    copy = _copy(folder, tmp_path / "dtype")
    np.save(copy / "values.npy", np.load(copy / "values.npy").view(np.int16))
    with pytest.raises(DataError, match="values"):
        IndexReader(copy)
    copy = _copy(folder, tmp_path / "blobs")
    for name in ("evidence.bin", "examples.bin"):
        data = (copy / name).read_bytes()
        (copy / name).write_bytes(b"\xff" * len(data))
    reader = IndexReader(copy)
    with pytest.raises(DataError):
        reader.evidence(2)
    with pytest.raises(DataError):
        reader.examples(2)


def test_another_version_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = _copy(folder, tmp_path / "version")
    text = (copy / "meta.json").read_text()
    (copy / "meta.json").write_text(text.replace('"format": 1', '"format": 7'))
    with pytest.raises(DataError, match="another version"):
        IndexReader(copy)


@pytest.mark.parametrize("feature", [-1, 40])
def test_unknown_features_are_refused(folder: Path, feature: int) -> None:
    reader = IndexReader(folder)
    for read in (reader.postings, reader.histogram, reader.evidence, reader.examples):
        with pytest.raises(DataError, match="no feature"):
            read(feature)


def test_rows_for_the_database(folder: Path) -> None:
    reader = IndexReader(folder)
    rows = iterate_feature_rows(reader)
    assert len(rows) == 40
    listed = list(rows)
    assert [row["index"] for row in listed] == list(range(40))
    for row in listed:
        evidence = reader.evidence(row["index"])
        assert row["postings"] == reader.counts[row["index"]]
        assert row["label"] == evidence_label(evidence)
        assert row["evidence"] == evidence.as_dict()
        assert examples_from_bytes(row["examples"]) == reader.examples(row["index"])
        assert isinstance(row["density"], float) and isinstance(row["max_activation"], float)
    assert 500 < rows.bytes_per_feature < 4500


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads what Linux tells")
def test_released_postings_take_no_memory_and_read_the_same(tmp_path: Path) -> None:
    count = 400_000  # 2.3 MB of positions and activations
    dense = np.zeros((count, 2), np.float32)
    dense[:, 1] = 1.0 + np.arange(count) % 7
    planted = plant(dense, [100] * (count // 100), list(range(count // 100)))
    reader = planted.build(tmp_path / "index")
    before = [array.copy() for array in reader.postings(1)]
    held = _mapped_kib(tmp_path / "index")
    reader.release(1)
    assert held - _mapped_kib(tmp_path / "index") > 2000
    for one, other in zip(before, reader.postings(1), strict=True):
        np.testing.assert_array_equal(one, other)


def _mapped_kib(folder: Path) -> int:
    """KiB of this process's memory that are pages of files in ``folder``."""
    inside, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = str(folder) in line
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total
