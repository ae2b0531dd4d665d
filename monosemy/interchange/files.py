"""Files of an exchange: written whole or not at all, read within bounds, with clear faults."""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from monosemy.errors import DataError
from monosemy.half_written import faults_naming
from monosemy.interchange.records import MOST_FEATURES
from monosemy.json_faults import json_fault

MOST_BYTES = 256 * 2**20
"""A file, or what a compressed one unpacks to, may be so large."""
LONGEST_LINE = 32 * 2**20


def is_plain(path: Path) -> bool:
    """A file, not a link to one: what lies elsewhere was not given."""
    return path.is_file() and not path.is_symlink()


def read_json(path: Path) -> Any:
    """The JSON document in ``path``.  Raises ``DataError``."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path.name} is larger than {MOST_BYTES // 2**20} MB.")
        return parsed(path.read_bytes(), path.name)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


def parsed(data: bytes, where: str) -> Any:
    """JSON without numbers that are none (NaN, Infinity).  Raises ``DataError``."""
    try:
        return json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {json_fault(error)}.") from None


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, object) of every line of a ``.jsonl.gz`` or ``.jsonl``, one at a time.

    Raises ``DataError`` for what is cut off, not JSON, no object, or unpacks to too much.
    """
    read = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                read += len(line)
                where = f"{path.name}, line {number}"
                if len(line) > LONGEST_LINE:
                    raise DataError(f"{where} is longer than {LONGEST_LINE // 2**20} MB.")
                if read > MOST_BYTES:
                    raise DataError(f"{path.name} unpacks to more than {MOST_BYTES // 2**20} MB.")
                if not line.strip():
                    continue
                value = parsed(line, where)
                if not isinstance(value, dict):
                    raise DataError(f"{where} is no object.")
                yield where, value
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path.name} is damaged or cut off: {reason}.") from None


def write_bytes(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with faults_naming(path, part):
        part.write_bytes(data)
        part.replace(path)


def write_json(path: Path, document: Any) -> None:
    """Whole or not at all.  ``DataError`` for numbers that are not finite."""
    try:
        data = json.dumps(document, separators=(",", ":"), allow_nan=False)
    except ValueError:
        raise DataError(f"{path.name}: one of the values is no finite number.") from None
    write_bytes(path, data.encode())


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """A ``.jsonl.gz``, whole or not at all."""
    try:
        lines = [json.dumps(row, ensure_ascii=True, allow_nan=False) + "\n" for row in rows]
    except ValueError:
        raise DataError(f"{path.name}: one of the values is no finite number.") from None
    # Without a time stamp: the same rows are the same bytes.
    write_bytes(path, gzip.compress("".join(lines).encode(), compresslevel=6, mtime=0))


def feature_index(value: Any, where: str) -> int:
    """A feature's index, given as a number or its digits.  Raises ``DataError``."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MOST_FEATURES:
        raise DataError(f"{where}: {str(value)[:40]!r} is no feature's index.")
    return value


def text_of(value: Any, where: str, name: str) -> str:
    """Any text, also one with NUL or half a surrogate pair, which JSON has and tokens hold.

    Raises ``DataError`` for what is no text.
    """
    if not isinstance(value, str):
        raise DataError(f"{where}: {name} is no text.")
    return value


def number_of(value: Any, where: str, name: str) -> float:
    """A finite number.  Raises ``DataError``."""
    try:
        if not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise DataError(f"{where}: {name} is no number.")


def list_of(value: Any, where: str, name: str) -> list[Any]:
    """Raises ``DataError`` for anything but a list."""
    if not isinstance(value, list):
        raise DataError(f"{where}: {name} is no list.")
    return value


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")
