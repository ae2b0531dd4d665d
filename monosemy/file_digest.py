"""Digests of whole files, computed once until a file is written to."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path
from typing import NamedTuple

from monosemy.changes import FileStamp, file_stamps
from monosemy.errors import DataError

_BLOCK = 1 << 22
_SETTLED_NS = 2_000_000_000
"""A file written to within so many nanoseconds may be written to again at the same time of change:
clocks of file systems are coarse."""


class FileDigest(NamedTuple):
    digest: str
    """32 hex digits over all bytes."""
    size: int
    """Bytes."""
    lines: int
    """Lines, a last one without its end counted."""


_taken: dict[FileStamp, FileDigest] = {}
_lock = threading.Lock()


def digest_of_file(path: Path) -> FileDigest:
    """Reads the file, unless this process has read it and it has not been written to since.

    Raises ``DataError`` for one that cannot be read.
    """
    for _ in range(3):
        before = file_stamps([path])
        with _lock:
            if before and before[0] in _taken:
                return _taken[before[0]]
        digest = _read(path)
        if before and before == file_stamps([path]):
            if time.time_ns() - max(before[0][2:4]) > _SETTLED_NS:
                with _lock:
                    _taken[before[0]] = digest
            return digest
    raise DataError(f"{path} is being written to.", "Wait until it is whole, and try again.")


def _read(path: Path) -> FileDigest:
    digest, size, lines, last = hashlib.blake2b(digest_size=16), 0, 0, b"\n"
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
                size += len(block)
                lines += block.count(b"\n")
                last = block[-1:]
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from None
    return FileDigest(digest.hexdigest(), size, lines + (last != b"\n"))
