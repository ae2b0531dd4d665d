"""Documents out of local .txt, .jsonl(.gz) and .parquet files, streamed."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from monosemy.data.chats import messages_of
from monosemy.data.documents import Document, Holds, column_of, name_of
from monosemy.errors import DataError

WHOLE_FILE_CHARACTERS = 20_000
"""A .txt file up to this size is one document."""

DOCUMENT_CHARACTERS = 4_000
"""A longer one is cut into documents at the first blank line after so many characters.  Where a
paragraph reaches twice this size, the cut is at the end of a line, else at a space."""

_READ_CHARACTERS = 1 << 16


def read_txt(file: Path, column: str, holds: Holds = "text") -> Iterator[Document]:  # noqa: ARG001
    """One document, or many for a long file (see the constants).  The file must be UTF-8."""
    if holds == "chat":
        raise DataError(f"{file} holds no chats.", "Chats come in .jsonl or .parquet files.")
    try:
        with file.open(encoding="utf-8-sig") as stream:
            held = stream.read(WHOLE_FILE_CHARACTERS + 1)
            if len(held) <= WHOLE_FILE_CHARACTERS:
                yield Document(file.name, held.strip())
                return
            number = 0
            while True:
                while len(held) >= 2 * DOCUMENT_CHARACTERS:
                    cut = _cut(held)
                    number += 1
                    yield Document(f"{file.name} part {number}", held[:cut].strip())
                    held = held[cut:].lstrip("\n")
                more = stream.read(_READ_CHARACTERS)
                if not more:
                    break
                held += more
            if held.strip():
                yield Document(f"{file.name} part {number + 1}", held.strip())
    except UnicodeDecodeError:
        raise DataError(*_encoding_fault(file)) from None
    except OSError as error:
        raise DataError(f"Cannot read {file}: {error.strerror}.") from None


def _cut(text: str) -> int:
    limit = 2 * DOCUMENT_CHARACTERS
    blank_line = text.find("\n\n", DOCUMENT_CHARACTERS, limit)
    if blank_line >= 0:
        return blank_line
    for border in ("\n", " "):
        found = text.rfind(border, DOCUMENT_CHARACTERS, limit)
        if found >= 0:
            return found + 1
    return limit


def _encoding_fault(file: Path) -> tuple[str, str]:
    """Message and advice; reads the file again, line by line, to say where."""
    advice = f"Convert it, for example: iconv -t UTF-8 {file.name}"
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                return f"{file}, line {number}: byte 0x{byte:02x} is not UTF-8.", advice
    return f"{file} is not UTF-8.", advice


def read_jsonl(file: Path, column: str, holds: Holds = "text") -> Iterator[Document]:
    """One document per line, its text under ``column``; lines may be gzipped (.gz)."""
    with _open_binary(file) as stream:
        lines = enumerate(stream, 1)
        while True:
            try:
                number, line = next(lines)
            except StopIteration:
                return
            except (OSError, EOFError, zlib.error) as error:
                raise DataError(f"Cannot read {file}: {error}.") from None
            if line.strip():
                yield _document_of_line(file, number, line, column, holds)


def _open_binary(file: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(file, "rb")) if file.suffix == ".gz" else file.open("rb")


def _document_of_line(file: Path, number: int, line: bytes, column: str, holds: Holds) -> Document:
    where = f"{file}, line {number}"
    try:
        record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: byte {error.start + 1} is not UTF-8.") from None
    except ValueError as error:
        raise DataError(f"{where} is not JSON: {error}.") from None
    if not isinstance(record, Mapping):
        raise DataError(f"{where} holds no JSON object but a {type(record).__name__}.")
    return document_of(record, column, where, f"{file.name}:{number}", holds)


def document_of(
    record: Mapping[str, Any], column: str, where: str, name: str, holds: Holds = "text"
) -> Document:
    """The document in one record; null counts as empty.  ``DataError`` names the columns."""
    column = column_of(record.keys(), column, holds)
    if column not in record:
        raise missing_column(where, column, list(record))
    value = record[column]
    if holds == "chat" or (holds == "either" and isinstance(value, list)):
        return Document(name_of(record, name), "", messages_of(value, column, where))
    if value is not None and not isinstance(value, str):
        advice = "For chats set text.packing=chat." if isinstance(value, list) else None
        raise DataError(f"{where}: '{column}' holds {type(value).__name__}, not text.", advice)
    return Document(name_of(record, name), value or "")


def missing_column(where: str, column: str, there: list[str]) -> DataError:
    """The error that names the columns which are there."""
    known = ", ".join(map(str, there)) or "none"
    return DataError(f"{where} has no column '{column}'; its columns: {known}.", "Set text.column.")


def read_parquet(file: Path, column: str, holds: Holds = "text") -> Iterator[Document]:
    """One document per row, read one row group at a time."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise DataError(
            "Parquet files need pyarrow.", "Run: pip install 'monosemy[train]'"
        ) from None
    try:
        table = parquet.ParquetFile(file)
    except (OSError, arrow.ArrowInvalid) as error:
        raise DataError(f"{file} is not a parquet file: {error}.") from None
    names = table.schema_arrow.names
    column = column_of(names, column, holds)
    if column not in names:
        raise missing_column(str(file), column, names)
    wanted = [column, *(name for name in ("title", "name", "id", "url") if name in names)]
    number = 0
    for batch in table.iter_batches(batch_size=256, columns=list(dict.fromkeys(wanted))):
        for record in batch.to_pylist():
            number += 1
            where = f"{file}, row {number}"
            yield document_of(record, column, where, f"{file.name}:{number}", holds)
