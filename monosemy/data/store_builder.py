"""Tokenises a streamed text into a token store, in bounded memory, atomically."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from monosemy.data.characters import encodable
from monosemy.data.chats import ChatRenderer, role_ids, special_ids
from monosemy.data.fits import separator_of
from monosemy.data.layout import block_sequences, packed_rows
from monosemy.data.sources import Document, open_text
from monosemy.data.splits import heldout_documents
from monosemy.data.store import FORMAT, FORMAT_WITH_SEQUENCES, stamped_host
from monosemy.data.text_stamp import text_stamp
from monosemy.errors import DataError
from monosemy.models.vocabulary import check_range
from monosemy.progress import Reporter
from monosemy.specs import TextSpec

if TYPE_CHECKING:
    from monosemy.models.host import HostModel

_BATCH_CHARACTERS = 1_000_000
_BATCH_DOCUMENTS = 512
_BATCH_DIALOGUES = 128


def build_store(
    text: TextSpec, host: HostModel, text_id: str, folder: Path, reporter: Reporter
) -> None:
    """Writes the store of ``text`` to ``folder``; leaves no trace of itself if it fails.

    Exact duplicates of documents are left out, and dialogues that cannot be used; both are counted,
    as are characters that no encoding has, which U+FFFD stands for.  Raises ``DataError`` for a
    text without tokens, with a token that the model has no embedding for, and for chats where the
    model has no template.
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
            raise DataError(f"The text '{text.source}' holds no tokens.", writer.why_empty())
        writer.finish(text_id, temporary)
        if text_stamp(text) != writer.stamp:
            raise DataError(
                f"The text '{text.source}' was written to while it was read.",
                "Wait until it is whole, and run again.",
            )
        reporter.log(
            "text is tokenised",
            tokens=writer.n_tokens,
            documents=len(writer.hashes),
            duplicates=writer.duplicates,
            **({"skipped_chats": sum(writer.skipped.values())} if writer.skipped else {}),
            **({"replaced_characters": writer.replaced} if writer.replaced else {}),
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
    for document in writer.rendered(documents):
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
        self.chats = text.packing.startswith("chat")
        self.bos_id = host.bos_id if text.prepend_bos and not self.chats else None
        self.row_length = text.context_size - (self.bos_id is not None)
        self.separator = separator_of(host) if text.packing == "packed" else None
        if not self.chats and host.abilities.text_end is not None:
            self.separator = host.abilities.text_end  # a text encoder's texts end with it
        self.renderer: ChatRenderer | None = None
        if self.chats:
            self.renderer = ChatRenderer(host.tokenizer, host.name)
        self.stamp = text_stamp(text)
        self.digest = hashlib.blake2b(digest_size=16)
        """As ``store.tokens_digest`` makes it."""
        self.n_tokens = 0
        self.duplicates = 0
        self.truncated = 0
        """Dialogues cut off at the context size, and the tokens lost by it."""
        self.truncated_tokens = 0
        self.replaced = 0
        """Characters that U+FFFD stands for."""
        self.lengths = array("q")
        self.hashes: list[int] = []
        self.names: list[str] = []
        self._seen: set[int] = set()

    @property
    def skipped(self) -> dict[str, int]:
        """Dialogues left out, per reason."""
        return dict(self.renderer.skipped) if self.renderer else {}

    def why_empty(self) -> str | None:
        if not self.renderer or not self.skipped:
            return None
        reasons = ", ".join(f"{reason}: {count}" for reason, count in self.skipped.items())
        said = self.renderer.first_refusal
        return f"Dialogues left out: {reasons}." + (f" The template said: {said}" if said else "")

    def rendered(self, documents: Iterator[Document]) -> Iterator[Document]:
        """The documents as texts that a tokenizer takes; empty for a dialogue that cannot be used.

        Several dialogues at a time, since they are rendered in another process.
        """
        while some := list(islice(documents, _BATCH_DIALOGUES)):
            dialogues = [each.messages for each in some if each.messages is not None]
            if dialogues and self.renderer is None:
                self.renderer = ChatRenderer(self.host.tokenizer, self.host.name)
            rendered = iter(self.renderer.render(dialogues) if self.renderer and dialogues else [])
            for each in some:
                text = each.text if each.messages is None else next(rendered) or ""
                text, replaced = encodable(text)
                self.replaced += replaced
                yield Document(encodable(each.name)[0], text)

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
            if self.chats and len(ids) > self.row_length:
                self.truncated += 1
                self.truncated_tokens += len(ids) - self.row_length
                ids = ids[: self.row_length]
            if ids and self.separator is not None:
                ids = [*ids, self.separator]
            if self.text.max_tokens is not None:
                ids = ids[: self.text.max_tokens - self.n_tokens]
            if ids:
                row = np.asarray(ids, dtype="<u4")
                where = f"In {document.name!r}: "
                limits = int(row.min()), int(row.max())
                check_range(*limits, self.host.tokenizer, self.host.d_vocab, where)
                self._append(document, row)
        return self.n_tokens - before

    def _append(self, document: Document, ids: Any) -> None:
        self.stream.write(ids.tobytes())
        self.digest.update(ids.tobytes())
        self.n_tokens += len(ids)
        self.lengths.append(len(ids))
        self.hashes.append(_hash(document.text))
        self.names.append(document.name)

    def _save_rows(self, hashes: npt.NDArray[np.uint64], folder: Path) -> tuple[int, int | None]:
        """Cuts the documents into rows; returns how many, and how many sequences they make."""
        lengths = np.asarray(self.lengths, dtype=np.int64)
        heldout = heldout_documents(hashes, self.text.heldout_fraction)
        sequence: npt.NDArray[np.int64] | None = None
        if self.text.packing == "packed":
            start, document, sequence = packed_rows(lengths, heldout, self.row_length)
        else:
            start, document = _cut(lengths, self.row_length)
        if self.text.packing.endswith("block_diagonal"):
            sizes = np.diff(start) + (self.bos_id is not None)
            sequence = block_sequences(sizes, heldout[document], self.text.context_size)
        np.save(folder / "row_start.npy", start)
        np.save(folder / "row_document.npy", document.astype(np.int32))
        self.digest.update(start.astype("<i8").tobytes())
        self.digest.update(document.astype("<i4").tobytes())
        if sequence is None:
            return len(document), None
        np.save(folder / "row_sequence.npy", sequence.astype(np.int32))
        return len(document), int(sequence.max()) + 1

    def finish(self, text_id: str, folder: Path) -> None:
        """Writes everything but the tokens; ``store.json`` comes last."""
        hashes = np.asarray(self.hashes, dtype=np.uint64)
        n_rows, n_sequences = self._save_rows(hashes, folder)
        np.save(folder / "document_hash.npy", hashes)
        (folder / "document_names.json").write_text(json.dumps(self.names), encoding="utf-8")
        (folder / "token_bytes.bin").write_bytes(self.host.token_bytes().pack())
        meta = {
            "format": FORMAT if n_sequences is None else FORMAT_WITH_SEQUENCES,
            "text_id": text_id,
            "text": self.text.model_dump(mode="json"),
            "host": stamped_host(self.host),
            "stamp": self.stamp,
            "tokens_digest": self.digest.hexdigest(),
            "context_size": self.text.context_size,
            "heldout_fraction": self.text.heldout_fraction,
            "bos_id": self.bos_id,
            "pad_id": self.host.pad_id,
            "n_tokens": self.n_tokens,
            "n_rows": n_rows,
            "n_sequences": n_rows if n_sequences is None else n_sequences,
            "n_documents": len(self.hashes),
            "duplicates": self.duplicates,
            "separator_id": self.separator,
            "special_ids": special_ids(self.host.tokenizer),
            "role_ids": role_ids(self.host.tokenizer),
            "skipped_chats": self.skipped,
            "truncated_chats": self.truncated,
            "truncated_tokens": self.truncated_tokens,
            "replaced_characters": self.replaced,
        }
        (folder / "store.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _cut(
    lengths: npt.NDArray[np.int64], longest: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """``(row_start, row_document)``: every document cut into rows of at most ``longest``."""
    pieces = -(-lengths // longest)
    document = np.repeat(np.arange(len(lengths)), pieces)
    sizes = np.full(len(document), longest, dtype=np.int64)
    sizes[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * longest
    return np.concatenate([[0], np.cumsum(sizes)]), document


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")
