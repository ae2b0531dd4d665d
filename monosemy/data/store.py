"""The token store: a text as token ids in a folder, memory mapped, cut into rows.

Tokens lie flat, without BOS and padding, so a token's position is its index and is stable whatever
batches it later appears in.  A row is a run of at most ``context_size`` tokens (one fewer where BOS
is prepended) of one document; the last row of a document is as short as it comes out.

Files: ``store.json``, ``tokens.u32`` (raw little endian), ``row_start.npy``, ``row_document.npy``,
``document_hash.npy``, ``document_names.json``, ``token_bytes.bin``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from monosemy.data.splits import heldout_documents
from monosemy.data.token_bytes import TokenBytes
from monosemy.errors import DataError
from monosemy.progress import SILENT, Reporter
from monosemy.specs import TextSpec
from monosemy.workspace import Workspace, fingerprint

if TYPE_CHECKING:
    from monosemy.models.host import HostModel

FORMAT = 1
_LOCAL_TEXT = (".txt", ".jsonl", ".jsonl.gz", ".parquet")


class Batch(NamedTuple):
    """Rows padded on the right, numpy: ids and mask for the host, what is text, where it lies."""

    ids_BS: npt.NDArray[np.int64]
    mask_BS: npt.NDArray[np.int64]
    """1 on BOS and text, 0 on padding."""
    real_BS: npt.NDArray[np.bool_]
    """True on text: neither BOS nor padding."""
    position_BS: npt.NDArray[np.int64]
    """Flat position of each token of the text, -1 elsewhere."""


class TokenStore:
    """Reads a store; numpy only.  Arrays are as the module docstring has them."""

    def __init__(self, folder: Path, meta: dict[str, Any]) -> None:
        self.folder = folder
        self.meta = meta
        self.text_id: str = meta["text_id"]
        self.context_size: int = meta["context_size"]
        self.bos_id: int | None = meta["bos_id"]
        self.pad_id: int = meta["pad_id"]
        self.n_tokens: int = meta["n_tokens"]
        self.n_rows: int = meta["n_rows"]
        self.n_documents: int = meta["n_documents"]
        tokens = np.memmap(folder / "tokens.u32", dtype="<u4", mode="r")
        self.tokens: npt.NDArray[np.uint32] = tokens
        self.row_start: npt.NDArray[np.int64] = _load(folder / "row_start.npy")
        self.row_document: npt.NDArray[np.int32] = _load(folder / "row_document.npy")
        self.document_hash: npt.NDArray[np.uint64] = _load(folder / "document_hash.npy")
        sizes = (len(tokens), len(self.row_start) - 1, len(self.document_hash))
        if sizes != (self.n_tokens, self.n_rows, self.n_documents):
            raise DataError(f"The token store {folder} is damaged: its files differ in length.")

    @classmethod
    def open(cls, folder: str | Path) -> TokenStore:
        """Opens a store; ``DataError`` if ``folder`` holds none or one of another format."""
        folder = Path(folder)
        try:
            meta = json.loads((folder / "store.json").read_text(encoding="utf-8"))
            if meta["format"] != FORMAT:
                raise DataError(
                    f"The token store {folder} has format {meta['format']}, not {FORMAT}.",
                    "Delete it; it is then built anew.",
                )
            return cls(folder, meta)
        except FileNotFoundError as error:
            raise DataError(f"There is no token store in {folder} ({error.filename}).") from None
        except (ValueError, KeyError) as error:
            raise DataError(f"The token store {folder} is damaged: {error}.") from None

    @classmethod
    def build(
        cls, text: TextSpec, host: HostModel, folder: str | Path, reporter: Reporter = SILENT
    ) -> TokenStore:
        """Tokenises ``text`` into ``folder``, which appears whole or not at all."""
        from monosemy.data.store_builder import build_store

        build_store(text, host, text_id_of(text, host.fingerprint), Path(folder), reporter)
        return cls.open(folder)

    @cached_property
    def document_names(self) -> list[str]:
        """Titles, file names or line numbers, one per document."""
        names = json.loads((self.folder / "document_names.json").read_text(encoding="utf-8"))
        return [str(name) for name in names]

    def token_bytes(self) -> TokenBytes:
        """Bytes of every token id of the tokenizer that built this store."""
        return TokenBytes.unpack((self.folder / "token_bytes.bin").read_bytes())

    def batch(self, rows: Sequence[int] | npt.NDArray[np.integer]) -> Batch:
        """The given rows, padded to the longest of them."""
        rows = np.asarray(rows, dtype=np.int64)
        lead = 0 if self.bos_id is None else 1
        start, length = self.row_start[rows], self.row_start[rows + 1] - self.row_start[rows]
        width = int(length.max(initial=0)) + lead
        offset = np.arange(width, dtype=np.int64)[None, :] - lead
        real = (offset >= 0) & (offset < length[:, None])
        position = np.where(real, start[:, None] + offset, -1)
        ids = np.full(real.shape, self.pad_id, dtype=np.int64)
        ids[real] = self.tokens[position[real]]
        mask = real.astype(np.int64)
        if self.bos_id is not None:
            ids[:, 0] = self.bos_id
            mask[:, 0] = 1
        return Batch(ids, mask, real, position)

    def heldout_rows(self) -> npt.NDArray[np.int64]:
        """Rows of documents that the SAE never trains on, ascending."""
        return np.flatnonzero(self._heldout[self.row_document])

    def training_rows(self) -> npt.NDArray[np.int64]:
        """All other rows, ascending."""
        return np.flatnonzero(~self._heldout[self.row_document])

    def row_of(self, positions: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The row that holds each flat position."""
        found = np.searchsorted(self.row_start, np.asarray(positions), side="right") - 1
        return found.astype(np.int64)

    @cached_property
    def _heldout(self) -> npt.NDArray[np.bool_]:
        return heldout_documents(self.document_hash, self.meta["heldout_fraction"])


def text_id_of(text: TextSpec, host_fingerprint: str) -> str:
    """Name of the store of ``text`` as this host tokenises it.

    A local file counts with its size and time of change, so an edited file makes a new store.
    """
    source = text.model_dump(mode="json")
    path = Path(text.source).expanduser()
    if text.source.endswith(_LOCAL_TEXT) and path.is_file():
        found = path.stat()
        source["file"] = [str(path.resolve()), found.st_size, found.st_mtime_ns]
    return fingerprint({"format": FORMAT, "text": source, "host": host_fingerprint})


def prepare_text(
    text: TextSpec, host: HostModel, workspace: Workspace, reporter: Reporter = SILENT
) -> TokenStore:
    """The token store of ``text``, opened from ``text/<text_id>`` or built there."""
    folder = workspace.folder("text", text_id_of(text, host.fingerprint))
    if (folder / "store.json").is_file():
        return TokenStore.open(folder)
    return TokenStore.build(text, host, folder, reporter)


def _load(file: Path) -> Any:
    return np.load(file, mmap_mode="r", allow_pickle=False)
