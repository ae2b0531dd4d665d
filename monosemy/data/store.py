"""The token store: a text as token ids in a folder, memory mapped, cut into rows.

Tokens lie flat, without BOS and padding, so a token's position is its index and is stable whatever
batches it later appears in.  A row is a run of at most ``context_size`` tokens (one fewer where BOS
is prepended) of one document; the last row of a document is as short as it comes out.  A dialogue
is one row, cut off at ``context_size``.

Rows that the host model reads together are a sequence (``data.layout``): one row, but where
documents are packed (``TextSpec.packing``).  Sequences mix no held-out documents with others.

Files: ``store.json``, ``tokens.u32`` (raw little endian), ``row_start.npy``, ``row_document.npy``,
``document_hash.npy``, ``document_names.json``, ``token_bytes.bin``, and ``row_sequence.npy`` where
sequences are more than rows (format 2).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from monosemy.data.fits import check_fits
from monosemy.data.layout import groups
from monosemy.data.splits import heldout_documents
from monosemy.data.text_stamp import local_file, text_stamp
from monosemy.data.token_bytes import TokenBytes
from monosemy.errors import DataError
from monosemy.progress import SILENT, Reporter
from monosemy.specs import TextSpec
from monosemy.workspace import Kind, Workspace, fingerprint

if TYPE_CHECKING:
    from monosemy.models.host import HostModel

FORMAT, FORMAT_WITH_SEQUENCES = 1, 2


class Batch(NamedTuple):
    """Rows padded on the right, numpy: ids and mask for the host, what is text, where it lies."""

    ids_BS: npt.NDArray[np.int64]
    mask_BS: npt.NDArray[np.int64]
    """1 on BOS and text, 0 on padding."""
    real_BS: npt.NDArray[np.bool_]
    """True on the text asked for: neither BOS nor padding, nor what packed rows have around it."""
    position_BS: npt.NDArray[np.int64]
    """Flat position of each real token, -1 elsewhere."""


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
        # Plain views: indexing a memmap object is several times slower.
        tokens = np.asarray(np.memmap(folder / "tokens.u32", dtype="<u4", mode="r"))
        self.tokens: npt.NDArray[np.uint32] = tokens
        self.row_start: npt.NDArray[np.int64] = _load(folder / "row_start.npy")
        self.row_document: npt.NDArray[np.int32] = _load(folder / "row_document.npy")
        self.document_hash: npt.NDArray[np.uint64] = _load(folder / "document_hash.npy")
        self.packing: str = meta["text"].get("packing", "document")
        self.row_sequence: npt.NDArray[np.int32] | None = None
        """The sequence of each row; None where every row is read alone."""
        if meta["format"] == FORMAT_WITH_SEQUENCES:
            self.row_sequence = _load(folder / "row_sequence.npy")
        sizes = (len(tokens), len(self.row_start) - 1, len(self.document_hash))
        sequenced = self.n_rows if self.row_sequence is None else len(self.row_sequence)
        if (*sizes, sequenced) != (self.n_tokens, self.n_rows, self.n_documents, self.n_rows):
            raise DataError(f"The token store {folder} is damaged: its files differ in length.")

    @classmethod
    def open(cls, folder: str | Path) -> TokenStore:
        """Opens a store; ``DataError`` if ``folder`` holds none or one of another format."""
        folder = Path(folder)
        try:
            meta = json.loads((folder / "store.json").read_text(encoding="utf-8"))
            if meta["format"] not in (FORMAT, FORMAT_WITH_SEQUENCES):
                raise DataError(
                    f"The token store {folder} has format {meta['format']}, "
                    f"not {FORMAT} or {FORMAT_WITH_SEQUENCES}.",
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

        check_fits(text, host)
        build_store(text, host, text_id_for(text, host), Path(folder), reporter)
        return cls.open(folder)

    @cached_property
    def document_names(self) -> list[str]:
        """Titles, file names or line numbers, one per document."""
        names = json.loads((self.folder / "document_names.json").read_text(encoding="utf-8"))
        return [str(name) for name in names]

    def token_bytes(self) -> TokenBytes:
        """Bytes of every token id of the tokenizer that built this store."""
        return TokenBytes.unpack((self.folder / "token_bytes.bin").read_bytes())

    def summary(self) -> dict[str, Any]:
        """What provenance says of the text: text_id, digest of its tokens, stamp of its file,
        tokens, documents, context_size, packing, how many characters could not be encoded (if any),
        and, of chats, how many were skipped (by reason) or cut."""
        found = {
            "text_id": self.text_id,
            "tokens_digest": self.meta.get("tokens_digest"),
            "stamp": self.meta.get("stamp"),
            "tokens": self.n_tokens,
            "documents": self.n_documents,
            "context_size": self.context_size,
            "packing": self.packing,
            "duplicates": self.meta.get("duplicates", 0),
        }
        if self.meta.get("replaced_characters"):
            found["replaced_characters"] = self.meta["replaced_characters"]
        if not self.chats:
            return found
        noted = ("skipped_chats", "truncated_chats", "truncated_tokens")
        return {**found, **{name: self.meta[name] for name in noted if name in self.meta}}

    @property
    def host_info(self) -> dict[str, Any]:
        """name, fingerprint and parts of the host model that the store was made for; empty where
        that is not known."""
        return dict(self.meta.get("host") or {})

    def restamp(self, stamps: dict[str, Any]) -> None:
        """Adds to ``store.json``, which is replaced whole; a folder that cannot be written to keeps
        what it has."""
        self.meta.update(stamps)
        unfinished = self.folder / f".store-{os.getpid()}.json"
        with suppress(OSError):
            unfinished.write_text(json.dumps(self.meta, indent=1), encoding="utf-8")
            unfinished.replace(self.folder / "store.json")

    @property
    def crosses_documents(self) -> bool:
        """Whether a token's activation depends on other documents of its sequence."""
        return self.packing == "packed"

    @property
    def chats(self) -> bool:
        """Whether documents are dialogues, rendered with the model's chat template."""
        return self.packing.startswith("chat")

    @property
    def special_ids(self) -> npt.NDArray[np.int64]:
        """Token ids that the tokenizer calls special, ascending; empty in stores made before these
        were recorded."""
        return np.asarray(self.meta.get("special_ids", []), dtype=np.int64)

    @property
    def role_ids(self) -> dict[str, int]:
        """Ids of the role names that are single tokens (see ``data.chats.role_ids``)."""
        return dict(self.meta.get("role_ids", {}))

    @property
    def n_sequences(self) -> int:
        """How many lines the host model reads for the whole text."""
        return self.n_rows if self.row_sequence is None else len(self._sequences[1]) - 1

    def sequences_of(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """The sequences that hold these rows: each once, in order of first appearance."""
        rows = np.asarray(rows, dtype=np.int64)
        sequence = rows if self.row_sequence is None else self.row_sequence[rows]
        _, first = np.unique(sequence, return_index=True)
        return np.asarray(sequence[np.sort(first)], dtype=np.int64)

    def rows_of_sequences(self, sequences: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The rows of these sequences, sequence by sequence, in the order the model reads them."""
        sequences = np.asarray(sequences, dtype=np.int64)
        if self.row_sequence is None:
            return sequences
        order, start = self._sequences
        parts = [order[start[number] : start[number + 1]] for number in sequences.tolist()]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    @cached_property
    def _sequences(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        assert self.row_sequence is not None
        return groups(self.row_sequence)

    def batch(self, rows: Sequence[int] | npt.NDArray[np.integer]) -> Batch:
        """The given rows, padded to the longest of them.

        Where documents are packed, one line per sequence that holds any of them (in order of first
        appearance), ``real_BS`` on their tokens alone; elsewhere one line per row.  Rows beneath a
        block-diagonal mask come alone, which gives the same activations (``models.packing`` puts
        them together).
        """
        rows = np.asarray(rows, dtype=np.int64)
        if self.crosses_documents:
            return self._packed_batch(rows)
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

    def _packed_batch(self, rows: npt.NDArray[np.integer]) -> Batch:
        lead = 0 if self.bos_id is None else 1
        lines = [self.rows_of_sequences(np.array([number])) for number in self.sequences_of(rows)]
        wanted = [np.isin(line, rows).tolist() for line in lines]
        spans = [[(self.row_start[row], self.row_start[row + 1]) for row in line] for line in lines]
        lengths = [sum(int(end - start) for start, end in span) + lead for span in spans]
        shape = (len(lines), max(lengths, default=lead))
        ids = np.full(shape, self.pad_id, dtype=np.int64)
        mask = np.arange(shape[1])[None, :] < np.array(lengths, dtype=np.int64)[:, None]
        position = np.full(shape, -1, dtype=np.int64)
        if self.bos_id is not None:
            ids[:, 0] = self.bos_id
        for number, (asked, span) in enumerate(zip(wanted, spans, strict=True)):
            at = lead
            for real, (start, end) in zip(asked, span, strict=True):
                place = slice(at, at + int(end - start))
                ids[number, place] = self.tokens[start:end]
                if real:
                    position[number, place] = np.arange(start, end)
                at = place.stop
        return Batch(ids, mask.astype(np.int64), position >= 0, position)

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


def text_id_for(text: TextSpec, host: HostModel) -> str:
    """``text_id_of`` with what it needs of the host and of the text's file."""
    template = getattr(host.tokenizer, "chat_template", None)
    return text_id_of(text, host.fingerprint, template, text_stamp(text))


def text_id_of(
    text: TextSpec,
    host_fingerprint: str,
    chat_template: Any = None,
    stamp: Mapping[str, Any] | None = None,
) -> str:
    """Name of the store of ``text`` as this host tokenises it, and as its template renders chats.

    A local file counts with its name and content (``stamp``), wherever it lies.
    """
    source = _identifying(text, chat_template)
    if stamp is not None:
        source["source"], source["file"] = stamp["file"], stamp["digest"]
    return fingerprint({"format": FORMAT, "text": source, "host": host_fingerprint})


def first_text_id_for(text: TextSpec, host: HostModel) -> str:
    """The name that a store had while local files counted with place, size and time of change, and
    host models with a sample of their weights."""
    source = _identifying(text, getattr(host.tokenizer, "chat_template", None))
    path = local_file(text)
    if path is not None and path.is_file():
        stat = path.stat()
        source["file"] = [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
    return fingerprint({"format": FORMAT, "text": source, "host": host.sampled_fingerprint})


def _identifying(text: TextSpec, chat_template: Any) -> dict[str, Any]:
    source = text.model_dump(mode="json")
    if text.packing == "document":
        del source["packing"]  # the names given before there was a choice stay valid
    if text.packing == "packed" or text.packing.startswith("chat"):
        source["chat_template"] = chat_template
    return source


def prepare_text(
    text: TextSpec, host: HostModel, workspace: Workspace, reporter: Reporter = SILENT
) -> TokenStore:
    """The token store of ``text``, opened from ``text/<text_id>`` or built there.

    A store under its first name is used as long as it is of this text and this host: what was made
    over it refers to that name.  ``DataError`` where the host model cannot read the text
    (``data.fits``).
    """
    check_fits(text, host)
    first = workspace.find(Kind.TEXT, first_text_id_for(text, host))
    if (first / "store.json").is_file():
        store = _vouched(TokenStore.open(first), text, host)
        if store is not None:
            return store
    folder = workspace.folder(Kind.TEXT, text_id_for(text, host))
    if (folder / "store.json").is_file():
        return TokenStore.open(folder)
    return TokenStore.build(text, host, folder, reporter)


def _vouched(store: TokenStore, text: TextSpec, host: HostModel) -> TokenStore | None:
    """The store, if it is of this text and host.

    One without stamps has the name that the first form of fingerprints gives these, vocabulary
    included; where BOS and the first document's tokens are those of this tokenizer too, it gets
    its stamps.
    """
    stamp = text_stamp(text)
    if "stamp" in store.meta:
        same = store.host_info.get("fingerprint") == host.fingerprint
        return store if same and store.meta["stamp"] == stamp else None
    if store.bos_id not in (None, host.bos_id) or not _begins_alike(store, text, host):
        return None
    store.restamp(
        {
            "host": stamped_host(host),
            "stamp": stamp,
            "tokens_digest": tokens_digest(store.tokens, store.row_start, store.row_document),
        }
    )
    return store


def _begins_alike(store: TokenStore, text: TextSpec, host: HostModel) -> bool:
    """Whether the first document of a local file still gives the store's first tokens: rules may
    have changed that the vocabulary does not show.  True where there is nothing to look at."""
    from monosemy.data.sources import open_text

    path = local_file(text)
    if path is None or not path.is_file() or store.chats:
        return True
    document = next((each for each in open_text(text) if each.text.strip()), None)
    if document is None:
        return True
    ids = host.tokenizer([document.text], add_special_tokens=False, verbose=False)["input_ids"][0]
    first = np.searchsorted(store.row_document, 1)
    count = min(len(ids), int(store.row_start[first]))
    return store.tokens[:count].tolist() == list(ids[:count])


def stamped_host(host: HostModel) -> dict[str, Any]:
    """What a store keeps of the host model whose tokenizer made it."""
    return {"name": host.name, "fingerprint": host.fingerprint, "parts": host.stamp.parts}


def tokens_digest(
    tokens: npt.NDArray[np.uint32],
    row_start: npt.NDArray[np.int64],
    row_document: npt.NDArray[np.int32],
) -> str:
    """32 hex digits over all tokens, and over how they fall into rows and documents."""
    digest = hashlib.blake2b(digest_size=16)
    for array, kind in ((tokens, "<u4"), (row_start, "<i8"), (row_document, "<i4")):
        digest.update(np.ascontiguousarray(array, dtype=kind).data)
    return digest.hexdigest()


def _load(file: Path) -> Any:
    return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
