"""The index folder as it is written: beside its final place, then renamed onto it.

    meta.json             versions, what was indexed, size of every other file
    indptr.npy            int64 [F + 1]: postings of feature f are [indptr[f], indptr[f + 1])
    positions.npy         uint32 or uint64 [P]: flat token positions, ascending per feature
    values.npy            float16 [P]: activation / largest activation of the feature, in (0, 1]
    max_activation.npy    float32 [F], exact; 0 where a feature never fired
    mean_activation.npy   float32 [F]: mean of the positive activations
    histogram.npy         uint32 [F, 40]: firings in equal bins over (0, max_activation]
    rows.npy              int64 [R]: the rows of the token store that were indexed, ascending
    examples.bin          examples as bytes (``example_bytes``), one after the other
    examples_indptr.npy   int64 [F + 1]: bytes of feature f
    evidence.bin          JSON of ``FeatureEvidence.as_dict()``, one after the other
    evidence_indptr.npy   int64 [F + 1]

Float16 of a share cannot overflow and gives the largest activation back exactly; the relative error
is below 2^-11 down to 6e-5 of the maximum.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from monosemy.index.evidence import FeatureEvidence

FORMAT_VERSION = 1
LEFTOVER_SECONDS = 24 * 3600
SMALLEST_SHARE = np.float16(2.0**-24)


class NpyStream:
    """Appends to a .npy file of known length."""

    def __init__(self, path: Path, dtype: npt.DTypeLike, length: int) -> None:
        self.dtype = np.dtype(dtype)
        self.left = length
        self.file: BinaryIO = path.open("wb")
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(self.file, header)

    def append(self, values: npt.NDArray[Any]) -> None:
        self.left -= len(values)
        self.file.write(np.ascontiguousarray(values, self.dtype).data)

    def close(self) -> None:
        self.file.close()
        if self.left:
            raise ValueError(f"{self.left} entries are missing")


class BlobStream:
    """Appends byte strings to one file and remembers where each ends."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.file: BinaryIO = (folder / f"{name}.bin").open("wb")
        self.ends = [0]

    def append(self, data: bytes) -> None:
        self.file.write(data)
        self.ends.append(self.ends[-1] + len(data))

    def close(self) -> None:
        self.file.close()
        np.save(self.folder / f"{self.name}_indptr.npy", np.array(self.ends, np.int64))


class IndexWriter:
    """Writes an index folder; as a context manager it removes a half-written one on any error.

    ``scratch`` is a folder for spilled chunks that goes away in any case.
    """

    def __init__(self, folder: Path) -> None:
        self.final = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        self.building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        self.scratch = self.building / "scratch"

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.building, ignore_errors=True)

    def open(self, counts: npt.NDArray[np.int64], position_dtype: np.dtype[Any]) -> None:
        """Begins the files whose length follows from the counts [F]."""
        indptr = np.concatenate([[0], np.cumsum(counts)])
        self.save("indptr", indptr)
        self.positions = NpyStream(self.building / "positions.npy", position_dtype, int(indptr[-1]))
        self.values = NpyStream(self.building / "values.npy", np.float16, int(indptr[-1]))
        self.examples = BlobStream(self.building, "examples")
        self.evidence = BlobStream(self.building, "evidence")

    def save(self, name: str, array: npt.NDArray[Any]) -> None:
        np.save(self.building / f"{name}.npy", array, allow_pickle=False)

    def add_feature(self, evidence: FeatureEvidence, examples: bytes) -> None:
        """Features come in ascending order."""
        text = json.dumps(evidence.as_dict(), ensure_ascii=False, separators=(",", ":"))
        self.evidence.append(text.encode("utf-8"))
        self.examples.append(examples)

    def commit(self, meta: dict[str, Any]) -> None:
        """Closes everything, writes meta.json, puts the folder in place of any older one."""
        for stream in (self.positions, self.values, self.examples, self.evidence):
            stream.close()
        shutil.rmtree(self.scratch, ignore_errors=True)
        sizes = {path.name: path.stat().st_size for path in sorted(self.building.iterdir())}
        whole = {"format": FORMAT_VERSION, **meta, "files": sizes, "bytes": sum(sizes.values())}
        with (self.building / "meta.json").open("w", encoding="utf-8") as file:
            json.dump(whole, file, indent=1, ensure_ascii=False)
        for path in self.building.iterdir():
            _sync(path)
        _sync(self.building)
        # mkdtemp makes the folder private; other workers read it too.
        self.building.chmod(0o755)
        _put_in_place(self.building, self.final)


def _remove_leftovers(folder: Path) -> None:
    """Removes what killed builds left beside ``folder``; young ones may still be at work."""
    for path in folder.parent.glob(f".{folder.name}.*"):
        if path.is_dir() and time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _put_in_place(new: Path, final: Path) -> None:
    """Renames ``new`` to ``final``; readers of the old one's open files keep them."""
    if final.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{final.name}.old.", dir=final.parent))
        final.rename(old / final.name)
        new.rename(final)
        shutil.rmtree(old, ignore_errors=True)
    else:
        new.rename(final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
