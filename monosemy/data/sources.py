"""Where text comes from: one function that streams documents out of whatever a spec names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from monosemy.data.documents import Document, Holds
from monosemy.data.local_files import read_jsonl, read_parquet, read_txt
from monosemy.data.remote import read_dataset
from monosemy.data.wikipedia import read_wikipedia_sample
from monosemy.errors import DataError
from monosemy.specs import TextSpec

WIKIPEDIA_SAMPLE = "wikipedia-sample"

READERS: dict[str, Callable[[Path, str, Holds], Iterator[Document]]] = {
    ".txt": read_txt,
    ".jsonl": read_jsonl,
    ".jsonl.gz": read_jsonl,
    ".parquet": read_parquet,
}
"""Ending of a local file -> what streams it, given the file, the column and what it holds."""

_HOLDS: dict[str, Holds] = {"packed": "either", "chat": "chat", "chat_block_diagonal": "chat"}


def open_text(spec: TextSpec) -> Iterator[Document]:
    """Streams the documents of ``spec.source``; ``DataError`` says what is wrong and where.

    Dialogues come as their messages; ``spec.packing`` says whether they are allowed or required.
    A name that ends like a local file is one, and must be there; a folder is refused; anything else
    is the name of a Hugging Face dataset.
    """
    holds = _HOLDS.get(spec.packing, "text")
    if spec.source == WIKIPEDIA_SAMPLE:
        if holds == "chat":
            raise DataError("The wikipedia-sample holds no chats.", "Name a text.source of chats.")
        return read_wikipedia_sample()
    path = Path(spec.source).expanduser()
    for ending, read in READERS.items():
        if spec.source.endswith(ending):
            if not path.is_file():
                raise DataError(f"There is no file {path}.")
            return read(path, spec.column, holds)
    if path.exists() or spec.source.startswith(("/", "./", "../", "~")):
        known = ", ".join(READERS)
        raise DataError(f"Cannot read text from {path}.", f"Name a file that ends in {known}.")
    return read_dataset(spec.source, spec.subset, spec.split, spec.column, holds)


__all__ = ["READERS", "WIKIPEDIA_SAMPLE", "Document", "open_text"]
