"""Where in a token store each token id stands: built once per store, then memory mapped.

    positions/indptr.npy      int64 [V + 1]: positions of token t are [indptr[t], indptr[t + 1])
    positions/positions.npy   uint32 or uint64 [N]: flat positions, ascending per token

numpy only.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from monosemy.errors import DataError
from monosemy.index.postings import PostingSorter
from monosemy.index.writer import NpyStream

if TYPE_CHECKING:
    from monosemy.data.store import TokenStore

FOLDER = "positions"
_READ = 1_000_000
_BLOCK = 4_000_000


class TokenPositions:
    """An inverted index of a token store, read only."""

    def __init__(self, folder: Path) -> None:
        self.indptr = _load(folder / "indptr.npy")
        self.positions = _load(folder / "positions.npy")
        if len(self.indptr) == 0 or int(self.indptr[-1]) != len(self.positions):
            raise DataError(f"{folder} is damaged.", "Delete it; it is then rebuilt.")

    @classmethod
    def of(cls, store: TokenStore) -> TokenPositions:
        """Opens that of ``store``; builds it first if it is missing.

        The folder appears whole or not at all, even if built twice at once.  Raises ``DataError``
        when it cannot be written or is damaged.
        """
        folder = Path(store.folder) / FOLDER
        if not folder.is_dir():
            try:
                _build(store, folder)
            except OSError as error:
                raise DataError(f"{folder} cannot be written: {error.strerror}.") from None
        opened = cls(folder)
        if len(opened.positions) != store.n_tokens:
            raise DataError(f"{folder} is of another text.", "Delete it; it is then rebuilt.")
        return opened

    def __call__(self, token: int) -> npt.NDArray[np.unsignedinteger]:
        """All flat positions of a token id, ascending; a view of the file."""
        if not 0 <= token < len(self.indptr) - 1:
            return self.positions[:0]
        return self.positions[int(self.indptr[token]) : int(self.indptr[token + 1])]


def _build(store: TokenStore, folder: Path) -> None:
    """External counting sort of (token, position); memory as ``PostingSorter`` has it."""
    n = store.n_tokens
    vocabulary = 1 + max(int(store.tokens[i : i + _READ].max()) for i in range(0, n, _READ))
    partial = Path(tempfile.mkdtemp(prefix=f".{FOLDER}.", dir=folder.parent))
    try:
        sorter = PostingSorter(vocabulary, n, partial / "scratch")
        for begin in range(0, n, _READ):
            tokens = np.asarray(store.tokens[begin : begin + _READ])[:, None]
            places = np.arange(begin, begin + len(tokens))
            sorter.add(places, tokens, np.ones(tokens.shape, np.float32))
        sorter.flush()
        stream = NpyStream(partial / "positions.npy", sorter.position_dtype, n)
        for block in sorter.blocks(vocabulary, _BLOCK):
            stream.append(block.positions)
        stream.close()
        np.save(partial / "indptr.npy", np.concatenate([[0], np.cumsum(sorter.counts)]))
        shutil.rmtree(partial / "scratch", ignore_errors=True)
        partial.chmod(0o755)  # mkdtemp makes it private; other workers read it too
        _publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _publish(partial: Path, folder: Path) -> None:
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was first, with the same result
            raise


def _load(file: Path) -> npt.NDArray[Any]:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file} cannot be read: {error}.", "Delete its folder.") from None
    return array.view(np.ndarray)
