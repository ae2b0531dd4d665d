"""Documents out of local .txt, .jsonl(.gz) and .parquet files, streamed."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from monosemy.data.documents import Document, Holds, column_of
from monosemy.data.records import Records, missing_column
from monosemy.errors import DataError
from monosemy.json_faults import json_fault

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
            no_text = _zeros_advice(file, held.encode("utf-8", "replace"))
            if no_text is not None:
                raise DataError(f"{file} holds NUL characters instead of text.", no_text)
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
        place = text.rfind(border, DOCUMENT_CHARACTERS, limit)
        if place >= 0:
            return place + 1
    return limit


def _encoding_fault(file: Path) -> tuple[str, str]:
    """Message and advice; reads the file again, line by line, to say where."""
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                message = f"{file}, line {number}: byte 0x{byte:02x} is not UTF-8."
                return message, utf8_advice(file, line)
    return f"{file} is not UTF-8.", utf8_advice(file, b"")


def read_jsonl(file: Path, column: str, holds: Holds = "text") -> Iterator[Document]:
    """One document per line, its text under ``column``; lines may be gzipped (.gz)."""
    records = Records(column, holds)
    with _open_binary(file) as stream:
        lines = enumerate(stream, 1)
        while True:
            try:
                number, line = next(lines)
            except StopIteration:
                return
            except (OSError, EOFError, zlib.error) as error:
                reason = str(error).rstrip(".") or type(error).__name__
                advice = "Is the file whole?" if file.suffix == ".gz" else None
                raise DataError(f"Cannot read {file}: {reason}.", advice) from None
            if line.strip() and line.strip() != codecs.BOM_UTF8:
                record = _record_of_line(file, number, line)
                where = f"{file}, line {number}"
                yield records.document(record, where, f"{file.name}:{number}")


def _open_binary(file: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(file, "rb")) if file.suffix == ".gz" else file.open("rb")


def _record_of_line(file: Path, number: int, line: bytes) -> Any:
    where = f"{file}, line {number}"
    try:
        return json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        byte, advice = line[error.start], utf8_advice(file, line)
        raise DataError(f"{where}: byte 0x{byte:02x} is not UTF-8.", advice) from None
    except (ValueError, RecursionError) as error:
        reason = json_fault(error)
        raise DataError(f"{where} is not JSON: {reason}.", _zeros_advice(file, line)) from None


def utf8_advice(file: Path, head: bytes) -> str:
    """How to make UTF-8 of a file that is not; ``head`` is where the fault is, or its beginning."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return f"It is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 {file.name}"
    return f"Convert it, for example: iconv -f WINDOWS-1252 -t UTF-8 {file.name}"


def _zeros_advice(file: Path, head: bytes) -> str | None:
    """Advice for what looks like UTF-16 without a mark: every other byte of plain text is 0."""
    zeros = head[:4096].count(0)
    if zeros and 4 * zeros >= len(head[:4096]):
        return f"It looks like UTF-16; convert it: iconv -f UTF-16LE -t UTF-8 {file.name}"
    return None


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
    records = Records(column, holds)
    batches = table.iter_batches(batch_size=256, columns=list(dict.fromkeys(wanted)))
    number = 0
    while True:
        try:
            batch = next(batches, None)
        except (OSError, arrow.ArrowException) as error:
            raise DataError(f"Cannot read {file} after row {number}: {error}.") from None
        if batch is None:
            return
        for record in _rows(batch, file, number):
            number += 1
            yield records.document(record, f"{file}, row {number}", f"{file.name}:{number}")


def _rows(batch: Any, file: Path, before: int) -> Iterator[dict[str, Any]]:
    """The rows of a record batch; a value that Python cannot hold is a ``DataError`` of its row."""
    try:
        yield from batch.to_pylist()
        return
    except (ValueError, OverflowError):  # text that is not UTF-8, dates beyond the calendar
        pass
    for place in range(batch.num_rows):
        row: dict[str, Any] = {}
        for name in batch.schema.names:
            try:
                row[name] = batch.column(name)[place].as_py()
            except (ValueError, OverflowError) as error:
                where = f"{file}, row {before + place + 1}"
                raise DataError(f"{where}: '{name}' cannot be read: {error}.") from None
        yield row
