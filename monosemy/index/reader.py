"""Reads an index folder (laid out in ``writer``).  numpy only: nothing it imports needs torch.

One feature costs its own postings: everything is memory mapped.
"""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from monosemy.data.splits import explanation_split
from monosemy.errors import DataError
from monosemy.index.evidence import HISTOGRAM_BINS, FeatureEvidence
from monosemy.index.example_bytes import examples_from_bytes
from monosemy.index.examples import Example, Firings
from monosemy.index.writer import FORMAT_VERSION

if TYPE_CHECKING:
    from monosemy.data.store import TokenStore

_ADVICE = "Index the SAE again."


class IndexReader:
    """An index, read only; safe to share between threads.

    ``DataError`` on opening when a file is missing, truncated or of another version, and later when
    its contents contradict themselves.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.meta = _read_meta(self.folder)
        try:
            self.n_features = int(self.meta["n_features"])
            self.n_tokens = int(self.meta["n_tokens"])
            self.text_id = str(self.meta["text_id"])
            self.window = int(self.meta["spec"]["window"])
            self.quantiles = int(self.meta["spec"]["quantiles"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self.folder}/meta.json lacks {error}.", _ADVICE) from None
        shape = (self.n_features,)
        self._indptr = self._indptr_of("indptr")
        total = int(self._indptr[-1])
        self._positions = self._array("positions", (total,), "u")
        self._values = self._array("values", (total,), "f")
        self.max_activation: npt.NDArray[np.float32] = self._array("max_activation", shape, "f")
        self.mean_activation: npt.NDArray[np.float32] = self._array("mean_activation", shape, "f")
        self._histogram = self._array("histogram", (self.n_features, HISTOGRAM_BINS), "u")
        self.rows: npt.NDArray[np.int64] = self._array("rows", None, "i")
        self.counts: npt.NDArray[np.int64] = np.diff(self._indptr)
        self.density: npt.NDArray[np.float64] = self.counts / max(self.n_tokens, 1)
        self._blobs = {name: self._blob(name) for name in ("examples", "evidence")}
        self._split_rows: dict[int, npt.NDArray[np.int64]] = {}
        self._splits: npt.NDArray[np.int8] | None = None

    @property
    def n_postings(self) -> int:
        return int(self._indptr[-1])

    def postings(self, feature: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """(positions int64 [n], activations float32 [n]) of one feature, by ascending position.

        Positions are flat positions in the token store; every activation is above 0.
        """
        positions, values = self._slice(self._check(feature))
        positions = positions.astype(np.int64)
        if len(positions) > 1 and not (np.diff(positions) > 0).all():
            raise DataError(f"The postings of feature {feature} are damaged.", _ADVICE)
        return positions, values.astype(np.float32) * self.max_activation[feature]

    def firings(self, feature: int) -> Firings:
        """The same, unread: views of the mapped files."""
        positions, shares = self._slice(self._check(feature))
        return Firings(positions, shares, float(self.max_activation[feature]))

    def release(self, feature: int) -> None:
        """Gives the memory of a feature's mapped postings back; they can be read again.

        Whoever goes through many features calls it, or pages pile up to the size of the index.
        """
        for array in (self._positions, self._values):
            part = array[int(self._indptr[feature]) : int(self._indptr[feature + 1])]
            _release_pages(array, part)

    def histogram(self, feature: int) -> npt.NDArray[np.int64]:
        """Firings in equal bins over (0, max_activation], int64 [HISTOGRAM_BINS]."""
        return self._histogram[self._check(feature)].astype(np.int64)

    def evidence(self, feature: int) -> FeatureEvidence:
        """What was measured about one feature."""
        text = self._blob_of("evidence", feature)
        try:
            data = json.loads(text)
        except ValueError:
            raise DataError(f"The evidence of feature {feature} is damaged.", _ADVICE) from None
        return FeatureEvidence.from_dict(data)

    def examples(self, feature: int) -> list[Example]:
        """Its top examples, strongest first, then the quantiles from weakest to strongest."""
        return examples_from_bytes(self.example_bytes(feature))

    def example_bytes(self, feature: int) -> bytes:
        """The same as bytes, as the database stores them."""
        return self._blob_of("examples", feature)

    def rows_of_split(self, store: TokenStore, split: int) -> npt.NDArray[np.int64]:
        """Indexed rows whose document is in explanation split ``split`` (0, 1 or 2), ascending."""
        self.check_store(store)
        if split not in self._split_rows:
            if split not in (0, 1, 2):
                raise DataError(f"There is no explanation split {split}.", "Use 0, 1 or 2.")
            splits = self.split_of_documents(store)
            documents = np.asarray(store.row_document)[self.rows]
            self._split_rows[split] = np.asarray(self.rows)[splits[documents] == split]
        return self._split_rows[split]

    def split_of_documents(self, store: TokenStore) -> npt.NDArray[np.int8]:
        """Explanation split of each document of the text."""
        if self._splits is None:
            self.check_store(store)
            self._splits = np.asarray(explanation_split(store.document_hash))
        return self._splits

    def check_store(self, store: TokenStore) -> None:
        """``DataError`` unless ``store`` is the text that was indexed."""
        if store.text_id != self.text_id:
            raise DataError(
                f"The index was made over text {self.text_id}, not {store.text_id}.",
                "Open the token store of that text.",
            )

    def _check(self, feature: int) -> int:
        if not 0 <= feature < self.n_features:
            raise DataError(f"There is no feature {feature}: there are {self.n_features}.")
        return feature

    def _slice(self, feature: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        place = slice(int(self._indptr[feature]), int(self._indptr[feature + 1]))
        return self._positions[place], self._values[place]

    def _array(self, name: str, shape: tuple[int, ...] | None, kind: str) -> npt.NDArray[Any]:
        path = self.folder / f"{name}.npy"
        try:
            mode: Any = "r" if path.stat().st_size > 0 else None
            array = np.load(path, mmap_mode=mode, allow_pickle=False)
        except FileNotFoundError:
            raise DataError(f"{path} is missing.", _ADVICE) from None
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path} cannot be read: {error}.", _ADVICE) from None
        if (shape is not None and array.shape != shape) or array.dtype.kind != kind:
            raise DataError(
                f"{path} holds {array.dtype} {array.shape}, not what meta.json says.", _ADVICE
            )
        # A plain view: indexing a memmap object is several times slower.
        return array.view(np.ndarray)

    def _indptr_of(self, name: str) -> npt.NDArray[np.int64]:
        array = self._array(name, (self.n_features + 1,), "i")
        if array[0] != 0 or (np.diff(array) < 0).any():
            raise DataError(f"{self.folder / name}.npy is damaged.", _ADVICE)
        return array

    def _blob(self, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        ends = self._indptr_of(f"{name}_indptr")
        path = self.folder / f"{name}.bin"
        try:
            size = path.stat().st_size
            data = np.memmap(path, np.uint8, "r") if size else np.zeros(0, np.uint8)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.", _ADVICE) from None
        if size != int(ends[-1]):
            raise DataError(f"{path} has {size} bytes, not {int(ends[-1])}.", _ADVICE)
        return ends, data

    def _blob_of(self, name: str, feature: int) -> bytes:
        ends, data = self._blobs[name]
        self._check(feature)
        return data[int(ends[feature]) : int(ends[feature + 1])].tobytes()


def _release_pages(array: npt.NDArray[Any], part: npt.NDArray[Any]) -> None:
    """Drops the whole pages of ``part``, a slice of the mapped ``array``, from this process."""
    memmap = array.base
    if not isinstance(memmap, np.memmap) or not hasattr(mmap, "MADV_DONTNEED"):
        return
    mapped, page = memmap.base, mmap.PAGESIZE
    assert isinstance(mapped, mmap.mmap)
    # The mapping starts at a multiple of the page before the array's first byte.
    begin = memmap.offset % mmap.ALLOCATIONGRANULARITY + part.ctypes.data - memmap.ctypes.data
    first, last = -(-begin // page) * page, (begin + part.nbytes) // page * page
    if last > first:
        mapped.madvise(mmap.MADV_DONTNEED, first, last - first)


def _read_meta(folder: Path) -> dict[str, Any]:
    path = folder / "meta.json"
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{folder} holds no index.", _ADVICE) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.", _ADVICE) from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT_VERSION:
        raise DataError(
            f"{folder} is an index of another version; this program reads {FORMAT_VERSION}.",
            _ADVICE,
        )
    for name, size in meta.get("files", {}).items():
        part = folder / name
        if not part.is_file() or part.stat().st_size != size:
            raise DataError(f"{part} is missing or not {size} bytes long.", _ADVICE)
    return meta
