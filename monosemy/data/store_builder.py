"""Tokenises a streamed text into a token store, in bounded memory, atomically."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from monosemy.data.sources import Document, open_text
from monosemy.data.store import FORMAT
from monosemy.errors import DataError
from monosemy.progress import Reporter
from monosemy.specs import TextSpec

if TYPE_CHECKING:
    from monosemy.models.host import HostModel

_BATCH_CHARACTERS = 1_000_000
_BATCH_DOCUMENTS = 512


def build_store(
    text: TextSpec, host: HostModel, text_id: str, folder: Path, reporter: Reporter
) -> None:
    """Writes the store of ``text`` to ``folder``; leaves no trace of itself if it fails.

    Exact duplicates of documents are left out.  Raises ``DataError`` for a text without tokens.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".{folder.name}-{uuid.uuid4().hex[:8]}"
    temporary.mkdir()
    try:
        with (
            (temporary / "tokens.u32").open("wb") as stream,
            reporter.stage("tokenize", total=text.max_tokens, unit="tokens") as stage,
        ):
            writer = _Writer(text, host, stream)
            for documents in _batches(open_text(text), writer):
                stage.advance(writer.add(documents), documents=len(writer.hashes))
                if writer.full:
                    break
        if not writer.n_tokens:
            raise DataError(f"The text '{text.source}' holds no tokens.")
        writer.finish(text_id, temporary)
        reporter.log(
            "text is tokenised",
            tokens=writer.n_tokens,
            documents=len(writer.hashes),
            duplicates=writer.duplicates,
        )
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError:
        # Another process built the same store first; an unfinished folder is never left behind.
        if not (folder / "store.json").is_file():
            raise


def _batches(documents: Iterator[Document], writer: _Writer) -> Iterator[list[Document]]:
    """Unseen documents in batches that keep the tokenizer busy."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        if not document.text.strip() or not writer.is_new(document.text):
            continue
        batch.append(document)
        size += len(document.text)
        if size >= _BATCH_CHARACTERS or len(batch) >= _BATCH_DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Writer:
    """Appends tokens to ``stream`` and keeps what is small in memory."""

    def __init__(self, text: TextSpec, host: HostModel, stream: BinaryIO) -> None:
        self.text = text
        self.host = host
        self.stream = stream
        self.bos_id = host.bos_id if text.prepend_bos else None
        self.row_length = text.context_size - (self.bos_id is not None)
        self.n_tokens = 0
        self.duplicates = 0
        self.row_start = array("q", [0])
        self.row_document = array("i")
        self.hashes: list[int] = []
        self.names: list[str] = []
        self._seen: set[int] = set()

    @property
    def full(self) -> bool:
        return self.text.max_tokens is not None and self.n_tokens >= self.text.max_tokens

    def is_new(self, text: str) -> bool:
        """False, and counted, for the exact text of an earlier document."""
        digest = _hash(text)
        if digest in self._seen:
            self.duplicates += 1
            return False
        self._seen.add(digest)
        return True

    def add(self, documents: list[Document]) -> int:
        """Tokenises and appends; returns the number of tokens appended."""
        before = self.n_tokens
        encoded = self.host.tokenizer(
            [document.text for document in documents],
            add_special_tokens=False,
            return_attention_mask=False,
            verbose=False,
        )["input_ids"]
        for document, ids in zip(documents, encoded, strict=True):
            if self.full:
                break
            if self.text.max_tokens is not None:
                ids = ids[: self.text.max_tokens - self.n_tokens]
            if ids:
                self._append(document, np.asarray(ids, dtype="<u4"))
        return self.n_tokens - before

    def _append(self, document: Document, ids: Any) -> None:
        self.stream.write(ids.tobytes())
        end = self.n_tokens + len(ids)
        for start in range(self.n_tokens, end, self.row_length):
            self.row_start.append(min(start + self.row_length, end))
            self.row_document.append(len(self.hashes))
        self.n_tokens = end
        self.hashes.append(_hash(document.text))
        self.names.append(document.name)

    def finish(self, text_id: str, folder: Path) -> None:
        """Writes everything but the tokens; ``store.json`` comes last."""
        np.save(folder / "row_start.npy", np.asarray(self.row_start, dtype=np.int64))
        np.save(folder / "row_document.npy", np.asarray(self.row_document, dtype=np.int32))
        np.save(folder / "document_hash.npy", np.asarray(self.hashes, dtype=np.uint64))
        (folder / "document_names.json").write_text(json.dumps(self.names), encoding="utf-8")
        (folder / "token_bytes.bin").write_bytes(self.host.token_bytes().pack())
        meta = {
            "format": FORMAT,
            "text_id": text_id,
            "text": self.text.model_dump(mode="json"),
            "host": {"name": self.host.name, "fingerprint": self.host.fingerprint},
            "context_size": self.text.context_size,
            "heldout_fraction": self.text.heldout_fraction,
            "bos_id": self.bos_id,
            "pad_id": self.host.pad_id,
            "n_tokens": self.n_tokens,
            "n_rows": len(self.row_document),
            "n_documents": len(self.hashes),
            "duplicates": self.duplicates,
        }
        (folder / "store.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", errors="surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")
